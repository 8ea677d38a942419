//! The outbox pattern: Debezium's `EventRouter` is not built in, and no misspelt class. The answer says so and lists what this
//! worker has.

use crate::missing_class::{Asked, ensure_says, ensure_says_not};
use anyhow::Result;
use serde_json::json;

const TYPE: &str = "transforms.outbox.type";

#[tokio::test(flavor = "multi_thread")]
async fn debeziums_event_router_is_known_and_not_built_in() -> Result<()> {
    let worker = Asked::start("case31").await?;
    for class in ["io.debezium.transforms.outbox.EventRouter", "EventRouter"] {
        let refusals = worker
            .refusals(&json!({ "transforms": "outbox", TYPE: class }), TYPE)
            .await?;
        ensure_says(
            &refusals,
            &[
                "could not be found. It is a transformation of Debezium that is not built into this worker",
                "this worker's transformations are ",
                "ExtractNewRecordState",
            ],
        )?;
        ensure_says_not(&refusals, "Did you mean")?;
    }
    let misspelt = "io.debezium.transforms.outbox.EventRuoter";
    let refusals = worker
        .refusals(&json!({ "transforms": "outbox", TYPE: misspelt }), TYPE)
        .await?;
    ensure_says(&refusals, &["Did you mean io.debezium.transforms.outbox.EventRouter?"])?;
    ensure_says_not(&refusals, "not built into")?;
    // one that this list of classes does not have
    let unheard = json!({ "transforms": "outbox", TYPE: "io.debezium.transforms.SomethingQuiteNew" });
    let refusals = worker.refusals(&unheard, TYPE).await?;
    ensure_says(
        &refusals,
        &["This worker has no such transformation of Debezium; this worker's transformations are "],
    )?;
    worker.stop()
}
