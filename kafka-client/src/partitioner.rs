//! Where Java's producer puts a record with a key: murmur2 (`org.apache.kafka.common.utils.Utils`) modulo partitions.

/// Kafka's 32-bit murmur2, with its seed, as Java's signed int.
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;

    let mut hash = SEED ^ bytes.len() as u32;
    let mut words = bytes.chunks_exact(4);
    for word in words.by_ref() {
        let mut k = word.iter().rev().fold(0u32, |k, &byte| k << 8 | u32::from(byte));
        k = k.wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0u32, |k, &byte| k << 8 | u32::from(byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash as i32
}

/// The partition, of `partitions` (at least 1), of a record with this key (`BuiltInPartitioner.partitionForKey`).
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    (murmur2(key) & 0x7fff_ffff) % partitions.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded from Kafka 4.3.1.
    const VECTORS: &str = include_str!("../tests/vectors/partitioner.jsonl");

    fn decode_base64(text: &str) -> Vec<u8> {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let (mut out, mut bits, mut count) = (Vec::new(), 0u32, 0);
        for byte in text.bytes().filter(|&b| b != b'=') {
            bits = bits << 6 | ALPHABET.iter().position(|&a| a == byte).unwrap() as u32;
            count += 6;
            if count >= 8 {
                count -= 8;
                out.push((bits >> count) as u8);
            }
        }
        out
    }

    #[test]
    fn partitions_like_java() {
        let mut seen = 0;
        for line in VECTORS.lines().filter(|line| !line.is_empty()) {
            let vector: serde_json::Value = serde_json::from_str(line).unwrap();
            let key = match &vector["key"] {
                serde_json::Value::String(text) => text.clone().into_bytes(),
                other => decode_base64(other["base64"].as_str().unwrap()),
            };
            assert_eq!(
                i64::from(murmur2(&key)),
                vector["expect"]["murmur2"].as_i64().unwrap(),
                "{line}"
            );
            let expected = vector["expect"]["partitionForCount1to50"].as_array().unwrap();
            for (i, partition) in expected.iter().enumerate() {
                assert_eq!(
                    i64::from(partition_for_key(&key, i as i32 + 1)),
                    partition.as_i64().unwrap(),
                    "{line}"
                );
            }
            seen += 1;
        }
        assert_eq!(seen, 106);
    }
}
