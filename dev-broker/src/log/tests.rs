//! The log against what it must do: sequences, transactions, compaction.

use kafka_protocol::ResponseError;
use proptest::prelude::*;

use super::batch::{BatchHeader, validate_produced};
use super::partition::PartitionLog;
use super::producers::{ProducerStates, SequenceCheck};
use super::test_batches::{append, batch};

proptest! {
    #[test]
    fn whatever_is_produced_is_taken_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        // Nothing from outside may panic.
        let _ = validate_produced(&bytes);
    }
}

#[test]
fn a_resent_batch_is_a_duplicate_and_a_gap_an_error() {
    let mut log = PartitionLog::default();
    let record = [(None, Some("v".to_owned()))];
    for sequence in 0..7 {
        append(&mut log, &batch(Some((9, 0, sequence)), false, &record));
    }
    let send = |log: &mut PartitionLog, epoch, sequence| {
        let bytes = batch(Some((9, epoch, sequence)), false, &record);
        let header = validate_produced(&bytes).unwrap();
        log.append(&header, &bytes, None)
            .map(|appended| (appended.base_offset, appended.new))
    };
    assert_eq!(send(&mut log, 0, 5), Ok((5, false)));
    assert_eq!(send(&mut log, 0, 1), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 0, 8), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 1, 3), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(send(&mut log, 1, 0), Ok((7, true)));
    assert_eq!(send(&mut log, 0, 7), Err(ResponseError::InvalidProducerEpoch));
}

#[test]
fn sequences_wrap_at_the_largest() {
    let mut producers = ProducerStates::default();
    let header = |sequence: i32| {
        let records = [(None, None), (None, None)];
        BatchHeader {
            base_sequence: sequence,
            ..validate_produced(&batch(Some((1, 0, 0)), false, &records)).unwrap()
        }
    };
    producers.appended(&header(i32::MAX));
    assert_eq!(header(i32::MAX).last_sequence(), 0);
    assert_eq!(producers.check(&header(1)), Ok(SequenceCheck::Append));
    assert_eq!(
        producers.check(&header(2)),
        Err(ResponseError::OutOfOrderSequenceNumber)
    );
}
