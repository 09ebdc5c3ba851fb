//! Texts that are probes, texts that are not, and that what is written is read again.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn parsed(text: &str) -> ProbeSpec {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn every_form_is_read_and_written_in_one_way() {
    let cases = [
        ("tcp:22", "tcp:22"),
        ("tcp:10.0.0.5:22", "tcp:10.0.0.5:22"),
        ("tcp:DB-1.example:5432", "tcp:db-1.example:5432"),
        ("tcp:[FE80::1]:22", "tcp:[fe80::1]:22"),
        ("http:80", "http:80"),
        ("http:80/", "http:80"),
        ("http:8080/health?full=1", "http:8080/health?full=1"),
        ("https:443/a%20b", "https:443/a%20b"),
        ("http://10.0.0.5:8080/health", "http://10.0.0.5:8080/health"),
        ("http://web", "http://web:80"),
        ("https://web/x", "https://web:443/x"),
        ("https://[::1]/x", "https://[::1]:443/x"),
        ("https://[::1]:8443", "https://[::1]:8443"),
        ("icmp", "icmp"),
        ("icmp:10.0.0.5", "icmp:10.0.0.5"),
        ("icmp:2001:db8::1", "icmp:[2001:db8::1]"),
        ("icmp:[2001:db8::1]", "icmp:[2001:db8::1]"),
        ("icmp:gateway.example", "icmp:gateway.example"),
    ];
    for (text, written) in cases {
        assert_eq!(parsed(text).to_string(), written, "{text}");
        assert_eq!(parsed(written), parsed(text));
    }
    let probe = parsed("https:8443/ready");
    assert_eq!(probe.host(), None);
    let port = NonZeroU16::new(8443).unwrap();
    assert_eq!(probe.kind(), &ProbeKind::Http { scheme: HttpScheme::Https, port, path: "/ready".to_owned() });
    assert_eq!(parsed("tcp:10.0.0.5:22").host(), Some(&ProbeHost::Address([10, 0, 0, 5].into())));
}

#[test]
fn whatever_could_be_misread_is_refused_with_a_reason() {
    let cases = [
        ("", "names no port"),
        ("tcp", "names no port"),
        ("22", "names no port"),
        ("udp:53", "begins with none"),
        ("TCP:22", "begins with none"),
        (" tcp:22", "begins with none"),
        ("tcp:", "port"),
        ("tcp:0", "port"),
        ("tcp:022", "port"),
        ("tcp:+22", "port"),
        ("tcp:22 ", "port"),
        ("tcp:65536", "port"),
        ("tcp:٢٢", "port"),
        ("tcp::22", "neither an address nor a name"),
        ("tcp:fe80::1:22", "brackets"),
        ("tcp:[fe80::1%eth0]:22", "cannot be read"),
        ("tcp:[10.0.0.5]:22", "cannot be read"),
        ("tcp:10.0.0:22", "neither an address nor a name"),
        ("tcp:10.0.0.256:22", "neither an address nor a name"),
        ("tcp:-web:22", "neither an address nor a name"),
        ("tcp:web..example:22", "neither an address nor a name"),
        ("http:", "port"),
        ("http:web:80", "port"),
        ("http:80health", "port"),
        ("http:80?x", "slash"),
        ("http:80#x", "slash"),
        ("http:80/a b", "%XX"),
        ("http:80/a%2", "%XX"),
        ("http:80/a\r\nHost: x", "%XX"),
        ("http:80/a#b", "%XX"),
        ("http:///x", "neither an address nor a name"),
        ("http://:80/x", "neither an address nor a name"),
        ("http://user:word@web/x", "port"),
        ("http://user@web/x", "neither an address nor a name"),
        ("icmp:", "neither an address nor a name"),
        ("icmp:10.0.0.5:1", "brackets"),
    ];
    for (text, reason) in cases {
        let error = text.parse::<ProbeSpec>().expect_err(text);
        assert!(error.to_string().contains(reason), "{error}");
        assert!(error.remedy().contains("tcp:PORT"));
    }
}

#[test]
fn lengths_are_bounded_and_long_texts_are_not_told_back_whole() {
    let label = "a".repeat(MAX_LABEL_BYTES);
    assert!(format!("icmp:{label}").parse::<ProbeSpec>().is_ok());
    assert!(format!("icmp:{label}a").parse::<ProbeSpec>().is_err());
    let longest = vec!["a".repeat(49); 5].join(".");
    assert!(format!("icmp:{longest}.abc").parse::<ProbeSpec>().is_ok());
    assert!(format!("icmp:{longest}.abcd").parse::<ProbeSpec>().is_err());
    let path = format!("/{}", "a".repeat(MAX_PATH_BYTES - 1));
    assert!(format!("http://{longest}.abc:8080{path}").parse::<ProbeSpec>().is_ok());
    assert!(format!("http:8080{path}a").parse::<ProbeSpec>().is_err());
    let error = "ä".repeat(MAX_PROBE_BYTES).parse::<ProbeSpec>().unwrap_err();
    assert!(error.to_string().chars().count() < 150 && error.to_string().contains("too long"), "{error}");
}

#[test]
fn in_json_and_in_the_schema_it_is_a_string() {
    let result = ProbeResult {
        probe: parsed("http:8080/health"),
        passed: true,
        attempts: 3,
        seconds: 4.5,
        message: "HTTP status 200".to_owned(),
    };
    let json = serde_json::to_value(&result).unwrap();
    assert_eq!(json["probe"], json!("http:8080/health"));
    assert_eq!(serde_json::from_value::<ProbeResult>(json).unwrap(), result);
    let error = serde_json::from_value::<ProbeSpec>(json!("http:0")).unwrap_err();
    assert!(error.to_string().contains("1 to 65535"), "{error}");
    assert!(serde_json::from_value::<ProbeSpec>(json!(22)).is_err());
    let schema = serde_json::to_value(ProbeSpec::schema()).unwrap();
    assert_eq!(schema["type"], json!("string"));
}

fn host() -> impl Strategy<Value = ProbeHost> {
    prop_oneof![
        any::<std::net::Ipv4Addr>().prop_map(|address| ProbeHost::Address(address.into())),
        any::<Ipv6Addr>().prop_map(|address| ProbeHost::Address(address.into())),
        "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\\.[a-z]([a-z0-9-]{0,20}[a-z0-9])?){0,3}"
            .prop_filter("a name", |name| is_name(name))
            .prop_map(ProbeHost::Name),
    ]
}

fn kind() -> impl Strategy<Value = ProbeKind> {
    let port = || any::<NonZeroU16>();
    let scheme = prop_oneof![Just(HttpScheme::Http), Just(HttpScheme::Https)];
    let path = "/([a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2}){0,60}";
    prop_oneof![
        port().prop_map(|port| ProbeKind::Tcp { port }),
        (scheme, port(), path).prop_map(|(scheme, port, path)| ProbeKind::Http { scheme, port, path }),
        Just(ProbeKind::Icmp),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(kind in kind(), host in proptest::option::of(host())) {
        let probe = ProbeSpec { kind, host };
        let text = probe.to_string();
        prop_assert!(text.len() <= MAX_PROBE_BYTES);
        prop_assert_eq!(text.parse::<ProbeSpec>(), Ok(probe));
    }

    #[test]
    fn no_text_breaks_the_parser_and_what_it_takes_is_stable(text in "\\PC{0,40}|(tcp|https?|icmp):[\\[\\]:/0-9a-f.%?@-]{0,40}") {
        if let Ok(probe) = text.parse::<ProbeSpec>() {
            let written = probe.to_string();
            prop_assert_eq!(written.parse::<ProbeSpec>(), Ok(probe));
        }
    }
}
