//! Names of the topics behind a connector's state. Pure.
//!
//! Connector and store are joined by a dash, which both may contain: store `c` of connector `a-b` and store `b-c` of connector
//! `a` share `connect-a-b-c-changelog`. Two connectors of one group are told so before either writes; two of different groups
//! find whose a changelog is by its own record (`state_store::changelog`).

use crate::registry::Resources;

/// The changelog topic of a store.
pub(crate) fn changelog_topic(connector: &str, store: &str) -> String {
    format!("connect-{connector}-{store}-changelog")
}

/// The topic of a connector's feature log.
pub(super) fn features_topic(connector: &str) -> String {
    format!("connect-{connector}-features")
}

/// Another connector of the group, with the store of its own whose changelog has the name of this one's.
pub(super) fn sharer(resources: &Resources, connector: &str, store: &str) -> Option<(String, String)> {
    let topic = changelog_topic(connector, store);
    let mut others = resources.layouts.keys().filter(|other| *other != connector);
    others.find_map(|other| {
        let rest = topic.strip_prefix(&format!("connect-{other}-"))?;
        let store = rest.strip_suffix("-changelog")?;
        let name = store.split(".ttl-").next().unwrap_or(store);
        let is_keyed = resources.stores.get(name).is_some_and(|store| !store.is_global());
        let is_one = is_keyed || resources.views.contains_key(name);
        is_one.then(|| (other.clone(), store.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Layout;
    use feature_engine::resource::parse_document;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;

    fn resources(connectors: &[&str], stores: &[&str]) -> Resources {
        let mut resources = Resources::default();
        for connector in connectors {
            let layout = Layout::next(None, 1, &BTreeMap::new()).unwrap();
            resources.layouts.insert((*connector).to_owned(), layout);
        }
        for store in stores {
            let document =
                json!({ "apiVersion": "millrace/v1", "kind": "store", "name": store, "keyed": { "by": "event.x" } });
            resources.insert(parse_document(&document).unwrap());
        }
        resources
    }

    #[test]
    fn two_pairs_with_one_topic_are_told_of_each_other() {
        let both = resources(&["a", "a-b"], &["c", "b-c", "d"]);
        assert_eq!(sharer(&both, "a-b", "c"), Some(("a".to_owned(), "b-c".to_owned())));
        assert_eq!(sharer(&both, "a", "b-c"), Some(("a-b".to_owned(), "c".to_owned())));
        assert_eq!(sharer(&both, "a", "d"), None);
        assert_eq!(sharer(&both, "a-b", "d"), None);
        let dotted = resources(&["a", "a-s.ttl"], &["s", "3d"]);
        assert_eq!(
            sharer(&dotted, "a", "s.ttl-3d"),
            Some(("a-s.ttl".to_owned(), "3d".to_owned()))
        );
    }

    proptest! {
        /// No two pairs that nobody is told of have one topic.
        #[test]
        fn whoever_is_not_told_is_alone(
            a in ("[ab](-[ab]){0,2}", "[ab](-[ab]){0,2}"), b in ("[ab](-[ab]){0,2}", "[ab](-[ab]){0,2}"),
        ) {
            prop_assume!(a.0 != b.0);
            let all = resources(&[&a.0, &b.0], &[&a.1, &b.1]);
            let same = changelog_topic(&a.0, &a.1) == changelog_topic(&b.0, &b.1);
            if same {
                prop_assert_eq!(sharer(&all, &a.0, &a.1), Some(b));
            }
        }
    }
}
