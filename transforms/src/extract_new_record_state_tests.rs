use super::*;
use connect_api::SourceRecord;
use connect_api::record::SourceMap;

fn config(options: &[(&str, &str)]) -> ConfigMap {
    options
        .iter()
        .map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())))
        .collect()
}

fn transform(options: &[(&str, &str)]) -> Arc<dyn Transformation> {
    ExtractNewRecordStatePlugin.configure(&config(options)).unwrap()
}

/// An event of a table with one column.
fn event(before: Option<i32>, after: Option<i32>) -> Record {
    let id = Arc::new(Schema::new(SchemaType::Int32));
    let row = Arc::new(Schema {
        optional: true,
        ..Schema::structure([("id", id)]).named("p.s.t.Value")
    });
    let source = Arc::new(Schema::structure([("lsn", Arc::new(Schema::new(SchemaType::Int64)))]));
    let op = Arc::new(Schema::new(SchemaType::String));
    let fields = [("before", &row), ("after", &row), ("source", &source), ("op", &op)];
    let schema = Schema::structure(fields.map(|(name, schema)| (name, Arc::clone(schema)))).named("p.s.t.Envelope");
    let side = |id: Option<i32>| match id {
        Some(id) => Value::Struct(Struct {
            schema: Arc::clone(&row),
            values: vec![Value::Int32(id)],
        }),
        None => Value::Null,
    };
    let origin = Struct {
        schema: source,
        values: vec![Value::Int64(9)],
    };
    let code = if after.is_none() { "d" } else { "c" };
    let values = vec![side(before), side(after), Value::Struct(origin), Value::from(code)];
    record(Value::Struct(Struct {
        schema: Arc::new(schema),
        values,
    }))
}

fn record(value: Value) -> Record {
    let schema = match &value {
        Value::Struct(value) => Some(Arc::clone(&value.schema)),
        _ => None,
    };
    Record::Source(SourceRecord {
        source_partition: Arc::new(SourceMap::new()),
        source_offset: Arc::default(),
        topic: "t".into(),
        partition: None,
        timestamp_ms: None,
        key: Datum::null(),
        value: Datum::new(SchemaAndValue { schema, value }),
        headers: Vec::new(),
    })
}

/// What comes out, as text: field=value; null for a tombstone, - for nothing.
fn out(transform: &Arc<dyn Transformation>, record: Record) -> String {
    match transform.apply(record).unwrap() {
        None => "-".to_owned(),
        Some(record) => match &record.value().get().unwrap().value {
            Value::Struct(row) => {
                let fields: Vec<String> = row
                    .schema
                    .fields
                    .iter()
                    .zip(&row.values)
                    .map(|(field, value)| format!("{}={value}", field.name))
                    .collect();
                fields.join(" ")
            }
            value => value.to_string(),
        },
    }
}

/// The table of Debezium's documentation: what each mode makes of an insert, a delete and the tombstone after it.
#[test]
fn every_mode_of_deletes() {
    let mode = |mode| [("delete.tombstone.handling.mode", mode)];
    let cases: Vec<(Vec<(&str, &str)>, [&str; 3])> = vec![
        (vec![], ["id=1", "null", "-"]),
        (mode("tombstone").into(), ["id=1", "null", "-"]),
        (mode("drop").into(), ["id=1", "-", "-"]),
        (
            mode("rewrite").into(),
            ["id=1 __deleted=false", "id=1 __deleted=true", "-"],
        ),
        (
            mode("rewrite-with-tombstone").into(),
            ["id=1 __deleted=false", "id=1 __deleted=true", "null"],
        ),
        (mode("delete-to-tombstone").into(), ["id=1", "null", "-"]),
        // the options of older versions
        (vec![("drop.tombstones", "false")], ["id=1", "-", "null"]),
        (vec![("drop.tombstones", "true")], ["id=1", "-", "-"]),
        (vec![("delete.handling.mode", "drop")], ["id=1", "-", "-"]),
        (vec![("delete.handling.mode", "none")], ["id=1", "null", "-"]),
        (
            vec![("delete.handling.mode", "rewrite"), ("drop.tombstones", "false")],
            ["id=1 __deleted=false", "id=1 __deleted=true", "null"],
        ),
    ];
    for (options, expected) in cases {
        let transform = transform(&options);
        let found =
            [event(None, Some(1)), event(Some(1), None), record(Value::Null)].map(|record| out(&transform, record));
        assert_eq!(found, expected, "{options:?}");
    }
}

#[test]
fn fields_and_headers_are_added() {
    let transform = transform(&[
        ("add.fields", "op,lsn,source.lsn:position,nothing"),
        ("add.headers", "op"),
    ]);
    assert_eq!(
        out(&transform, event(None, Some(1))),
        "id=1 __op=c __lsn=9 __position=9"
    );
    let Some(with_header) = transform.apply(event(None, Some(1))).unwrap() else {
        panic!()
    };
    assert_eq!(
        (&*with_header.headers()[0].name, &with_header.headers()[0].data.value),
        ("__op", &Value::from("c"))
    );
}

/// Headers of a delete, as Debezium 3.6.1 leaves them: what the record had, then what is added.
#[test]
fn a_tombstone_has_the_headers_of_its_delete() {
    let names = |record: &Record| -> Vec<String> {
        let headers = record.headers().iter();
        headers
            .map(|header| format!("{}={}", header.name, header.data.value))
            .collect()
    };
    let moved = |mut record: Record| {
        add_header(&mut record, text_header(&"__debezium.newkey".into(), "5"));
        record
    };
    for mode in ["tombstone", "delete-to-tombstone"] {
        let transform = transform(&[("delete.tombstone.handling.mode", mode), ("add.headers", "op,lsn")]);
        let Some(tombstone) = transform.apply(moved(event(Some(1), None))).unwrap() else {
            panic!()
        };
        assert!(
            tombstone.value().get().unwrap().value == Value::Null && tombstone.value().get().unwrap().schema.is_none()
        );
        assert_eq!(names(&tombstone), ["__debezium.newkey=5", "__op=d", "__lsn=9"]);
        assert!(transform.apply(moved(record(Value::Null))).unwrap().is_none());
    }
    // the tombstone that is kept beside a row has no envelope to ask
    let both = transform(&[
        ("delete.tombstone.handling.mode", "rewrite-with-tombstone"),
        ("add.headers", "op,lsn"),
    ]);
    let Some(tombstone) = both.apply(moved(record(Value::Null))).unwrap() else {
        panic!()
    };
    assert_eq!(names(&tombstone), ["__debezium.newkey=5", "__op=d"]);
}

#[test]
fn what_is_no_event_passes() {
    let transform = transform(&[]);
    assert_eq!(out(&transform, record(Value::from("text"))), "text");
}

#[test]
fn options_that_are_not_supported_are_refused() {
    let refused = ExtractNewRecordStatePlugin.configure(&config(&[("route.by.field", "region")]));
    assert!(
        refused
            .err()
            .unwrap()
            .message()
            .contains("configuration route.by.field: this option of Debezium is not supported")
    );
    assert!(
        ExtractNewRecordStatePlugin
            .configure(&config(&[("drop.fields.from.key", "false")]))
            .is_ok()
    );
}
