//! MAC addresses of network cards: read in the usual spellings, written in one.

use std::fmt;
use std::str::FromStr;

/// Octets of an address (IEEE 802).
const OCTETS: usize = 6;
/// Most characters of a refused text that its error repeats.
const MAX_SHOWN_CHARS: usize = 64;

/// A MAC address; displayed in lower case with colons, as it is stored and compared everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddress([u8; OCTETS]);

/// A text that is no MAC address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a MAC address: six pairs of hexadecimal digits with colons or hyphens between them")]
pub struct MacAddressError(String);

impl MacAddress {
    /// Whether it addresses a group instead of one card (the lowest bit of the first octet): no card may have it.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        self.0[0] & 1 == 1
    }

    /// Whether it is all zeros: the address of a card that has none.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.0 == [0; OCTETS]
    }
}

impl From<[u8; OCTETS]> for MacAddress {
    fn from(octets: [u8; OCTETS]) -> Self {
        Self(octets)
    }
}

impl FromStr for MacAddress {
    type Err = MacAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused = || MacAddressError(text.chars().take(MAX_SHOWN_CHARS).collect());
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut octets = [0; OCTETS];
        let mut parts = text.split(separator);
        for octet in &mut octets {
            let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
            *octet = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or_else(refused)?;
        }
        if parts.next().is_some() { Err(refused()) } else { Ok(Self(octets)) }
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn usual_spellings_are_one_address() {
        for text in ["00:50:56:AB:cd:01", "00-50-56-ab-CD-01", "00:50:56:ab:cd:01"] {
            assert_eq!(text.parse::<MacAddress>().unwrap().to_string(), "00:50:56:ab:cd:01", "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "00:50:56:ab:cd",
            "00:50:56:ab:cd:01:02",
            "0:50:56:ab:cd:01",
            "00:50:56:ab:cd:0g",
            "005056abcd01",
            "00:50-56:ab:cd:01",
            "+0:50:56:ab:cd:01",
            "00:50:56:ab:cd:é1",
            " 00:50:56:ab:cd:01",
        ] {
            assert!(text.parse::<MacAddress>().is_err(), "{text}");
        }
        let long = "x".repeat(10_000).parse::<MacAddress>().unwrap_err().to_string();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn groups_and_nothing_are_told_from_cards() {
        let address = |text: &str| text.parse::<MacAddress>().unwrap();
        assert!(address("01:00:5e:00:00:01").is_multicast() && address("ff:ff:ff:ff:ff:ff").is_multicast());
        assert!(!address("02:00:5e:10:00:01").is_multicast() && !address("02:00:5e:10:00:01").is_zero());
        assert!(address("00:00:00:00:00:00").is_zero());
    }

    proptest! {
        #[test]
        fn every_address_is_read_back(octets in any::<[u8; OCTETS]>()) {
            let address = MacAddress::from(octets);
            prop_assert_eq!(address.to_string().parse::<MacAddress>().unwrap(), address);
        }
    }
}
