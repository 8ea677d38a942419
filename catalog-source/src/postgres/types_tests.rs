use super::*;
use proptest::prelude::*;

fn options() -> ValueOptions {
    ValueOptions {
        decimals: DecimalMode::Precise,
        times: TimeMode::Adaptive,
        unknown_types: false,
    }
}

fn of(name: &str, modifier: i32) -> ColumnType {
    let catalog = CatalogType {
        name,
        modifier,
        labels: None,
    };
    ColumnType::new(&catalog, &options(), true).unwrap()
}

fn numeric(precision: i32, scale: i32) -> i32 {
    ((precision << 16) | (scale & 0x7ff)) + 4
}

fn decimal_value(unscaled: i64, scale: i32) -> Value {
    Value::Decimal {
        unscaled: unscaled.into(),
        scale,
    }
}

#[test]
fn schemas_are_named_as_debezium_names_them() {
    let name = |column: &ColumnType| column.schema(true).name.map(|name| name.to_string());
    assert_eq!(name(&of("int4", -1)), None);
    assert_eq!(name(&of("date", -1)).as_deref(), Some("io.debezium.time.Date"));
    assert_eq!(name(&of("time", 3)).as_deref(), Some("io.debezium.time.Time"));
    assert_eq!(name(&of("time", -1)).as_deref(), Some("io.debezium.time.MicroTime"));
    assert_eq!(name(&of("timestamp", 0)).as_deref(), Some("io.debezium.time.Timestamp"));
    assert_eq!(
        name(&of("timestamp", -1)).as_deref(),
        Some("io.debezium.time.MicroTimestamp")
    );
    assert_eq!(
        name(&of("timestamptz", -1)).as_deref(),
        Some("io.debezium.time.ZonedTimestamp")
    );
    assert_eq!(name(&of("jsonb", -1)).as_deref(), Some("io.debezium.data.Json"));
    let decimal = of("numeric", numeric(10, 2)).schema(false);
    assert_eq!(decimal.name.as_deref(), Some(DECIMAL));
    let parameters = decimal.parameters.unwrap();
    assert_eq!(
        (
            parameters["scale"].as_str(),
            parameters["connect.decimal.precision"].as_str()
        ),
        ("2", "10")
    );
    let array = of("_text", -1).schema(true);
    assert!(array.optional && array.value_schema.unwrap().optional);
    let labels = CatalogType {
        name: "mood",
        modifier: -1,
        labels: Some("sad,happy"),
    };
    let mood = ColumnType::new(&labels, &options(), false).unwrap().schema(false);
    assert_eq!(mood.parameters.unwrap()["allowed"], "sad,happy");
    let connect = ValueOptions {
        times: TimeMode::Connect,
        ..options()
    };
    let date = ColumnType::new(
        &CatalogType {
            name: "date",
            modifier: -1,
            labels: None,
        },
        &connect,
        false,
    )
    .unwrap();
    assert_eq!(date.schema(false).name.as_deref(), Some(DATE));
    assert_eq!(date.read(b"1970-01-03"), Ok(Value::Date(2 * 86_400_000)));
}

#[test]
fn types_that_are_not_read() {
    let new = |name, options: &ValueOptions| {
        ColumnType::new(
            &CatalogType {
                name,
                modifier: -1,
                labels: None,
            },
            options,
            true,
        )
    };
    assert_eq!(new("hstore", &options()), Err(NotRead::Unsupported));
    assert_eq!(new("_interval", &options()), Err(NotRead::Unsupported));
    assert_eq!(new("mine", &options()), Err(NotRead::Unknown));
    let all = ValueOptions {
        unknown_types: true,
        ..options()
    };
    assert_eq!(new("mine", &all), Ok(ColumnType::Opaque));
}

#[test]
fn texts_become_values() {
    assert_eq!(of("bool", -1).read(b"t"), Ok(Value::Boolean(true)));
    assert_eq!(of("int2", -1).read(b"-7"), Ok(Value::Int16(-7)));
    assert_eq!(of("oid", -1).read(b"4294967295"), Ok(Value::Int64(4_294_967_295)));
    assert_eq!(
        of("float8", -1).read(b"-Infinity"),
        Ok(Value::Float64(f64::NEG_INFINITY))
    );
    assert_eq!(of("float4", -1).read(b"3.3"), Ok(Value::Float32(3.3)));
    assert_eq!(
        of("bytea", -1).read(b"\\x00ff"),
        Ok(Value::Bytes(Bytes::from_static(&[0, 255])))
    );
    assert_eq!(of("text", -1).read("é".as_bytes()), Ok(Value::from("é")));
    let lossy = of("text", -1).read(&[b'a', 0xff]).unwrap_err();
    assert_eq!(
        (lossy.instead, lossy.kind),
        (Value::from("a\u{fffd}"), "text that is not UTF-8")
    );
    let money = of("numeric", numeric(10, 2));
    assert_eq!(money.read(b"-0.05"), Ok(decimal_value(-5, 2)));
    assert_eq!(money.read(b"12.30"), Ok(decimal_value(1230, 2)));
    // more digits than the column has are not rounded
    assert_eq!(money.read(b"12.300"), Ok(decimal_value(1230, 2)));
    assert_eq!(money.read(b"12.301").unwrap_err().instead, Value::Null);
    // a negative scale: numeric(3,-2) holds hundreds
    assert_eq!(of("numeric", numeric(3, -2)).read(b"12300"), Ok(decimal_value(123, -2)));
    let Ok(Value::Struct(structure)) = of("numeric", -1).read(b"12345678901234567890.5") else {
        panic!()
    };
    assert_eq!(structure.values[0], Value::Int32(1));
    let bytes: BigInt = "123456789012345678905".parse().unwrap();
    assert_eq!(structure.values[1], Value::Bytes(bytes.to_signed_bytes_be().into()));
    let double = ValueOptions {
        decimals: DecimalMode::Double,
        ..options()
    };
    let double = ColumnType::new(
        &CatalogType {
            name: "numeric",
            modifier: -1,
            labels: None,
        },
        &double,
        false,
    )
    .unwrap();
    assert_eq!(double.read(b"1.25"), Ok(Value::Float64(1.25)));
    assert!(matches!(double.read(b"NaN"), Ok(Value::Float64(nan)) if nan.is_nan()));
    assert_eq!(
        of("_int4", -1).read(b"{1,NULL}"),
        Ok(Value::Array(vec![Value::Int32(1), Value::Null]))
    );
}

proptest! {
    /// A number with a point is its unscaled value and its scale.
    #[test]
    fn decimals_come_back(unscaled in any::<i128>(), scale in 0_usize..30) {
        let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
        let (whole, fraction) = digits.split_at(digits.len() - scale);
        let sign = if unscaled < 0 { "-" } else { "" };
        let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
        let (read, read_scale) = decimal(&text).unwrap();
        prop_assert_eq!(read, BigInt::from(unscaled));
        prop_assert_eq!(read_scale, scale as i32);
    }

    /// What a type reads fits its schema, and what it cannot read is an error.
    #[test]
    fn values_fit_their_schemas(
        name in prop::sample::select(vec![
            "bool", "int2", "int4", "int8", "float4", "float8", "numeric", "text", "bytea", "date", "time", "timetz",
            "timestamp", "timestamptz", "uuid", "jsonb", "_int4", "_text", "_date",
        ]),
        text in prop_oneof![
            "-?[0-9]{1,20}(\\.[0-9]{1,8})?", "[tf]", "\\\\x[0-9a-f]{0,6}", "[0-9]{4}-[0-9]{2}-[0-9]{2}( [0-9:]{8}[+-]0[0-9])?",
            "\\{[0-9,]{0,8}\\}", ".{0,10}",
        ],
    ) {
        let column = of(name, -1);
        let value = column.read(text.as_bytes()).unwrap_or_else(|lost| lost.instead);
        connect_api::validation::validate_value(None, &column.schema(true), &value).unwrap();
        connect_api::validation::validate_value(None, &column.schema(true), &column.zero()).unwrap();
    }
}

/// What Debezium 3.6.1 writes of values that have no representation, and goes on.
#[test]
fn values_that_cannot_be_represented() {
    let instead = |column: &ColumnType, text: &str| column.read(text.as_bytes()).unwrap_err().instead;
    for not_a_number in ["NaN", "Infinity", "-Infinity"] {
        for column in [of("numeric", -1), of("numeric", numeric(10, 2))] {
            let lost = column.read(not_a_number.as_bytes()).unwrap_err();
            assert_eq!(lost.instead, Value::Null);
            assert!(lost.kind.contains("decimal.handling.mode"));
        }
    }
    let last = "294276-12-31 23:59:59.999999";
    assert_eq!(instead(&of("timestamp", -1), last), Value::Int64(i64::MAX));
    assert_eq!(
        of("timestamp", 3).read(last.as_bytes()),
        Ok(Value::Int64(9_224_318_015_999_999))
    );
    assert_eq!(
        instead(&of("_int4", -1), "{{1,2},{3,4},{5,6}}"),
        Value::Array(vec![Value::Null; 3])
    );
    // where Debezium loses the whole array, only the element is lost
    let amounts = of("_numeric", numeric(8, 2));
    assert_eq!(
        instead(&amounts, "{1.5,NaN,NULL}"),
        Value::Array(vec![decimal_value(150, 2), Value::Null, Value::Null])
    );
    // what a type's output function never writes
    for name in [
        "bool",
        "int4",
        "float8",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "bytea",
        "numeric",
        "_int4",
    ] {
        assert_eq!(instead(&of(name, -1), "x"), Value::Null, "{name}");
    }
}

#[test]
fn numbers_as_text_are_javas() {
    let options = ValueOptions {
        decimals: DecimalMode::String,
        ..options()
    };
    let catalog = CatalogType {
        name: "_numeric",
        modifier: -1,
        labels: None,
    };
    let column = ColumnType::new(&catalog, &options, true).unwrap();
    let texts = ["1.50", "NAN", "POSITIVE_INFINITY", "NEGATIVE_INFINITY"].map(Value::from);
    assert_eq!(
        column.read(b"{1.50,NaN,Infinity,-Infinity}"),
        Ok(Value::Array(texts.to_vec()))
    );
}

#[test]
fn infinity_is_debeziums_in_every_mode() {
    let infinity = |name: &'static str, modifier, times| {
        let catalog = CatalogType {
            name,
            modifier,
            labels: None,
        };
        let options = ValueOptions { times, ..options() };
        let column = ColumnType::new(&catalog, &options, true).unwrap();
        ["infinity", "-infinity"].map(|text| column.read(text.as_bytes()).unwrap())
    };
    let (millis, minus) = (9_223_372_036_825_200, -9_223_372_036_832_400);
    assert_eq!(
        infinity("timestamp", -1, TimeMode::Adaptive),
        [Value::Int64(millis * 1000), Value::Int64(minus * 1000)]
    );
    assert_eq!(
        infinity("timestamp", 3, TimeMode::Adaptive),
        [Value::Int64(millis), Value::Int64(minus)]
    );
    assert_eq!(
        infinity("timestamp", -1, TimeMode::Connect),
        [Value::Date(millis), Value::Date(minus)]
    );
    assert_eq!(
        infinity("timestamptz", -1, TimeMode::Connect),
        [Value::from("infinity"), Value::from("-infinity")]
    );
}
