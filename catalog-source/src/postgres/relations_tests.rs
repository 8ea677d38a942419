use super::*;
use proptest::prelude::*;

fn streamed(name: &str, key: bool, type_oid: u32) -> RelationColumn {
    RelationColumn {
        key,
        name: name.to_owned(),
        type_oid,
        modifier: -1,
    }
}

fn relation(identity: Identity, columns: &[(&str, bool)]) -> Relation {
    Relation {
        oid: 1,
        schema: "s".to_owned(),
        table: "t".to_owned(),
        identity,
        columns: columns.iter().map(|(name, key)| streamed(name, *key, 23)).collect(),
    }
}

fn column(name: &str, key: Option<i32>) -> Column {
    Column {
        name: name.into(),
        type_oid: 23,
        modifier: -1,
        base_type: "int4".to_owned(),
        base_modifier: -1,
        labels: None,
        optional: key.is_none(),
        key,
        generated: None,
    }
}

fn catalog(primary: bool, columns: &[(&str, Option<i32>)]) -> Table {
    Table {
        name: name(),
        oid: 1,
        partitioned: false,
        row_filter: None,
        primary,
        columns: columns.iter().map(|(name, key)| column(name, *key)).collect(),
    }
}

fn name() -> TableName {
    TableName {
        schema: "s".into(),
        table: "t".into(),
    }
}

fn key_of(relation: &Relation, catalog: Option<&Table>) -> Vec<String> {
    let table = merge(relation, name(), catalog, &[]);
    let mut key: Vec<&Column> = table.columns.iter().filter(|column| column.key.is_some()).collect();
    key.sort_by_key(|column| column.key);
    key.iter().map(|column| column.name.to_string()).collect()
}

#[test]
fn keys_are_those_of_the_time_of_the_change() {
    use Identity::{Default, Full, Index, Nothing};
    let today = catalog(true, &[("a", Some(2)), ("b", Some(1)), ("c", None)]);
    let columns = |keys: &str| ["a", "b", "c"].map(|name| (name, keys.contains(name)));
    let key = |identity, keys: &str, catalog: Option<&Table>| key_of(&relation(identity, &columns(keys)), catalog);
    // the same columns: in the primary key's order
    assert_eq!(key(Default, "ab", Some(&today)), ["b", "a"]);
    // another key then
    assert_eq!(key(Default, "c", Some(&today)), ["c"]);
    assert_eq!(key(Default, "a", Some(&today)), ["a"]);
    // no table any more, or no key any more
    assert_eq!(key(Default, "ac", None), ["a", "c"]);
    assert_eq!(
        key(
            Default,
            "c",
            Some(&catalog(false, &[("a", None), ("b", None), ("c", None)]))
        ),
        ["c"]
    );
    // no key then: today's, if the rows have its columns
    assert_eq!(key(Default, "", Some(&today)), ["b", "a"]);
    let wider = catalog(true, &[("a", Some(1)), ("b", None), ("c", None), ("d", Some(2))]);
    assert_eq!(key(Default, "", Some(&wider)), Vec::<String>::new());
    assert_eq!(key(Full, "abc", Some(&wider)), Vec::<String>::new());
    // the message does not say what the key is
    assert_eq!(key(Full, "abc", Some(&today)), ["b", "a"]);
    assert_eq!(key(Nothing, "", Some(&today)), ["b", "a"]);
    assert_eq!(key(Full, "abc", None), Vec::<String>::new());
    // an index as replica identity: the primary key first, else the index of that time
    assert_eq!(key(Index, "c", Some(&today)), ["b", "a"]);
    let index = catalog(false, &[("a", None), ("b", Some(1)), ("c", None)]);
    assert_eq!(key(Index, "b", Some(&index)), ["b"]);
    assert_eq!(key(Index, "c", Some(&index)), ["c"]);
}

#[test]
fn a_generated_column_of_the_key_is_there() {
    let mut today = catalog(true, &[("a", Some(1)), ("g", Some(2)), ("b", None)]);
    today.columns[1].generated = Some(Generated {
        expression: "(b * 2)".to_owned(),
        inputs: vec![("b".to_owned(), "integer".to_owned())],
    });
    let table = merge(
        &relation(Identity::Default, &[("a", true), ("b", false)]),
        name(),
        Some(&today),
        &[],
    );
    let names: Vec<(&str, Option<i32>)> = table.columns.iter().map(|column| (&*column.name, column.key)).collect();
    assert_eq!(names, [("a", Some(1)), ("g", Some(2)), ("b", None)]);
    // streamed, as PostgreSQL 18 can
    let table = merge(
        &relation(Identity::Default, &[("a", true), ("g", true), ("b", false)]),
        name(),
        Some(&today),
        &[],
    );
    assert_eq!(table.columns.len(), 3);
    // alone in the key
    today.columns[0].key = None;
    today.columns[1].key = Some(1);
    assert_eq!(
        key_of(
            &relation(Identity::Default, &[("a", false), ("b", false)]),
            Some(&today)
        ),
        ["g"]
    );
}

#[test]
fn types_are_those_of_the_time_of_the_change_and_nullability_is_todays() {
    let today = catalog(true, &[("id", Some(1)), ("was_text", None), ("must", None)]);
    let mut today = today;
    today.columns[2].optional = false;
    let mut then = relation(
        Identity::Default,
        &[("id", true), ("was_text", false), ("must", false), ("gone", false)],
    );
    then.columns[0].type_oid = 20;
    then.columns[1].type_oid = 25;
    then.columns[2].type_oid = 20;
    let info = |base_type: &str| TypeInfo {
        base_type: base_type.to_owned(),
        base_modifier: -1,
        labels: None,
    };
    let types = [
        ((20, -1), info("int8")),
        ((25, -1), info("text")),
        ((23, -1), info("int4")),
    ];
    let table = merge(&then, name(), Some(&today), &types);
    let found: Vec<(&str, &str, bool, Option<i32>)> = table
        .columns
        .iter()
        .map(|column| (&*column.name, &*column.base_type, column.optional, column.key))
        .collect();
    assert_eq!(
        found,
        [
            ("id", "int8", false, Some(1)),
            ("was_text", "text", true, None),
            ("must", "int8", false, None),
            ("gone", "int4", true, None),
        ]
    );
}

proptest! {
    /// Whatever a relation message and the catalog say, the table has the columns of the message (and generated ones of the
    /// key behind them), and a key has each of its columns once, from place 1 on.
    #[test]
    fn a_merged_table_is_whole(
        identity in prop::sample::select(vec![Identity::Default, Identity::Index, Identity::Full, Identity::Nothing]),
        then in proptest::collection::btree_map("[a-e]", any::<bool>(), 1..5),
        today in proptest::option::of(proptest::collection::btree_map("[a-e]", proptest::option::of(1_i32..9), 0..5)),
        primary in any::<bool>(),
    ) {
        let columns: Vec<(&str, bool)> = then.iter().map(|(name, key)| (name.as_str(), *key)).collect();
        let relation = relation(identity, &columns);
        let today = today.map(|columns| {
            // places of a key are different ones
            let mut places: Vec<i32> = columns.values().copied().flatten().collect();
            places.sort_unstable();
            places.dedup();
            let mut used = Vec::new();
            let columns: Vec<(&str, Option<i32>)> = columns.iter().map(|(name, key)| {
                let key = key.filter(|key| { let new = !used.contains(key); used.push(*key); new });
                (name.as_str(), key)
            }).collect();
            catalog(primary, &columns)
        });
        let table = merge(&relation, name(), today.as_ref(), &[]);
        let names: Vec<&str> = table.columns.iter().map(|column| &*column.name).collect();
        prop_assert_eq!(names, columns.iter().map(|(name, _)| *name).collect::<Vec<_>>());
        let mut places: Vec<i32> = table.columns.iter().filter_map(|column| column.key).collect();
        places.sort_unstable();
        prop_assert_eq!(places.clone(), (1..=places.len() as i32).collect::<Vec<_>>());
    }
}
