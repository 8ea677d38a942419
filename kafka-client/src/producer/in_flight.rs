//! Records that the library has and that have no outcome yet.

/// A place for each record in flight, found again by the number that the library reports it under.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    places: Vec<Option<Flight>>,
    free: Vec<u32>,
    next_sequence: u64,
}

/// A record in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    /// what its sender knows it by
    pub token: u64,
    /// its place among all records that were sent
    pub sequence: u64,
    /// number of its topic among the producer's
    pub topic: u32,
    /// when it was made, in milliseconds since the Unix epoch: reports of failures do not say
    pub timestamp_ms: i64,
}

impl InFlight {
    /// Takes a record in: the number that it goes under, never 0.
    pub fn insert(&mut self, token: u64, topic: u32, timestamp_ms: i64) -> u64 {
        let flight = Flight {
            token,
            sequence: self.next_sequence,
            topic,
            timestamp_ms,
        };
        self.next_sequence += 1;
        let number = match self.free.pop() {
            Some(number) => {
                if let Some(place) = self.places.get_mut(number as usize) {
                    *place = Some(flight);
                }
                u64::from(number)
            }
            None => {
                self.places.push(Some(flight));
                self.places.len() as u64 - 1
            }
        };
        number + 1
    }

    /// Takes a record out. None: it is not in flight.
    pub fn remove(&mut self, number: u64) -> Option<Flight> {
        let index = number.checked_sub(1)?;
        let flight = self.places.get_mut(usize::try_from(index).ok()?)?.take()?;
        self.free.push(u32::try_from(index).ok()?);
        Some(flight)
    }

    /// A record, still in flight.
    pub fn get(&self, number: u64) -> Option<Flight> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.places.get(index).copied().flatten()
    }

    /// Notes the number that a record's topic has with another client.
    pub fn moved(&mut self, number: u64, topic: u32) {
        let index = number.checked_sub(1).and_then(|index| usize::try_from(index).ok());
        if let Some(Some(flight)) = index.and_then(|index| self.places.get_mut(index)) {
            flight.topic = topic;
        }
    }

    pub fn len(&self) -> usize {
        self.places.len() - self.free.len()
    }

    /// The record that was sent first.
    pub fn oldest(&self) -> Option<Flight> {
        self.places
            .iter()
            .flatten()
            .min_by_key(|flight| flight.sequence)
            .copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against a list of what is in flight, in the order of sending.
        #[test]
        fn every_record_is_found_again_and_the_oldest_is_known(steps in prop::collection::vec(any::<(bool, prop::sample::Index)>(), 0..200)) {
            let mut in_flight = InFlight::default();
            let mut expected: Vec<(u64, u64)> = Vec::new();
            for (token, (sends, which)) in (0..).zip(steps) {
                if sends || expected.is_empty() {
                    let number = in_flight.insert(token, 0, 0);
                    prop_assert!(number > 0 && expected.iter().all(|(other, _)| *other != number));
                    expected.push((number, token));
                } else {
                    let (number, token) = expected.remove(which.index(expected.len()));
                    prop_assert_eq!(in_flight.get(number).map(|flight| flight.token), Some(token));
                    prop_assert_eq!(in_flight.remove(number).map(|flight| flight.token), Some(token));
                    prop_assert_eq!(in_flight.remove(number), None);
                }
                prop_assert_eq!(in_flight.len(), expected.len());
                prop_assert_eq!(in_flight.oldest().map(|flight| flight.token), expected.first().map(|(_, token)| *token));
            }
        }
    }
}
