//! Identities that are part of stored state, so they must never change: 64-bit FNV-1a
//! (<http://www.isthe.com/chongo/tech/comp/fnv/>) over length-prefixed parts.

#[derive(Clone, Copy)]
pub(super) struct Fingerprint(u64);

impl Fingerprint {
    pub fn new() -> Fingerprint {
        Fingerprint(0xcbf2_9ce4_8422_2325)
    }

    pub fn text(self, text: &str) -> Fingerprint {
        self.number(text.len() as u64).bytes(text.as_bytes())
    }

    pub fn number(self, number: u64) -> Fingerprint {
        self.bytes(&number.to_le_bytes())
    }

    pub fn finish(self) -> u64 {
        self.0
    }

    fn bytes(self, bytes: &[u8]) -> Fingerprint {
        Fingerprint(bytes.iter().fold(self.0, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn is_fnv_1a() {
        // From the reference's test vectors.
        assert_eq!(Fingerprint::new().finish(), 0xcbf2_9ce4_8422_2325);
        assert_eq!(Fingerprint::new().bytes(b"a").finish(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(Fingerprint::new().bytes(b"foobar").finish(), 0x8594_4171_f739_67e8);
    }
}
