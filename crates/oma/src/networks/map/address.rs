//! Whether a network can give a card the IP address its mapping names. Pure.

use std::net::Ipv4Addr;

use api::Problem;
use cloudstack::Network;
use model::FailureKind;
use model::status::NicStrategy;

use super::{Card, NicMapping};

/// Bits of an IPv4 address.
const ADDRESS_BITS: u32 = 32;

/// What stands against the address of a mapping.
pub(super) fn problem(card: &Card<'_>, mapping: &NicMapping, network: &Network) -> Option<Problem> {
    let keeps = card.strategy == NicStrategy::KeepIp;
    let leave = format!("{} --to {}", card.command, network.name);
    let refused = |what: String| Problem::new(FailureKind::Invalid, format!("{} {what}", card.name));
    let Some(text) = mapping.ip_address.as_deref() else {
        let named = || refused("is to keep its IP address, but none is named".to_owned());
        return keeps.then(|| named().remedy(format!("{leave} --strategy keep-ip --ip ADDRESS")));
    };
    if !keeps {
        let what =
            format!("is to get the IP address {text}, but its strategy {} leaves that to the network", card.strategy);
        return Some(
            refused(what).remedy(format!("{leave} --strategy keep-ip --ip {text}, or leave the IP address away")),
        );
    }
    let reason = unusable(text, network)?;
    let what = format!("cannot have the IP address {text} in {:?}", network.name);
    Some(refused(what).cause(reason).remedy(format!("{leave} with an IP address of that network, or another strategy")))
}

/// Why a network does not give out an address.
fn unusable(text: &str, network: &Network) -> Option<String> {
    let Ok(address) = text.parse::<Ipv4Addr>() else {
        return Some("it is not an IPv4 address".to_owned());
    };
    if network.network_type.as_deref().is_some_and(|kind| kind.eq_ignore_ascii_case("l2")) {
        return Some("an L2 network gives out no IP addresses".to_owned());
    }
    let Some(range) = network.cidr.as_deref().and_then(Range::parse) else {
        return Some("the network has no IPv4 range".to_owned());
    };
    let range_text = network.cidr.as_deref().unwrap_or_default();
    if !range.contains(address) {
        return Some(format!("the network's range is {range_text}"));
    }
    if range.is_reserved(address) || network.gateway.as_deref().is_some_and(|gateway| gateway == address.to_string()) {
        return Some(format!("it is an address of the network {range_text} itself"));
    }
    None
}

/// `10.1.1.0/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Range {
    first: u32,
    last: u32,
}

impl Range {
    fn parse(cidr: &str) -> Option<Self> {
        let (address, bits) = cidr.trim().split_once('/')?;
        let address = u32::from(address.parse::<Ipv4Addr>().ok()?);
        let host_bits = ADDRESS_BITS.checked_sub(bits.parse().ok()?)?;
        // A shift by all the bits there are is none that u32 knows.
        let hosts = u32::MAX.checked_shr(ADDRESS_BITS - host_bits).unwrap_or(0);
        Some(Self { first: address & !hosts, last: address | hosts })
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&u32::from(address))
    }

    /// Whether it is the network's own or its broadcast address; ranges of one or two addresses have neither (RFC 3021).
    fn is_reserved(self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.last - self.first > 1 && (address == self.first || address == self.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_hold_their_addresses() {
        for (cidr, inside, outside) in [
            ("10.1.1.0/24", "10.1.1.200", "10.1.2.1"),
            ("10.1.1.77/24", "10.1.1.1", "10.1.0.255"),
            ("192.168.0.0/16", "192.168.255.254", "192.169.0.0"),
            ("10.0.0.8/30", "10.0.0.9", "10.0.0.12"),
            ("10.0.0.8/32", "10.0.0.8", "10.0.0.9"),
        ] {
            let range = Range::parse(cidr).unwrap();
            assert!(range.contains(inside.parse().unwrap()), "{cidr} {inside}");
            assert!(!range.contains(outside.parse().unwrap()), "{cidr} {outside}");
        }
        let everything = Range::parse("0.0.0.0/0").unwrap();
        assert!(everything.contains(Ipv4Addr::BROADCAST) && everything.contains(Ipv4Addr::UNSPECIFIED));
        for nonsense in ["", "10.1.1.0", "10.1.1.0/33", "10.1.1.0/x", "10.1.1/24", "fd00::/64"] {
            assert_eq!(Range::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn both_ends_of_a_range_are_its_own() {
        let reserved = |cidr, address: &str| Range::parse(cidr).unwrap().is_reserved(address.parse().unwrap());
        assert!(reserved("10.1.1.0/24", "10.1.1.0") && reserved("10.1.1.0/24", "10.1.1.255"));
        assert!(!reserved("10.1.1.0/24", "10.1.1.1") && !reserved("10.1.1.4/31", "10.1.1.4"));
    }
}
