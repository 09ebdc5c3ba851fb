//! The reader against answers of real shape and against hostile ones; the writer against the reader.

use proptest::prelude::*;

use super::read::{MAX_DEPTH, answer};
use super::{Answer, Element, Namespace, Request, SoapError, parse};
use crate::moref::MoRef;

const REAL: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenc="http://schemas.xmlsoap.org/soap/encoding/" xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<soapenv:Body><FindByUuidResponse xmlns="urn:vim25"><returnval type="VirtualMachine" xsi:type="ManagedObjectReference">vm-62</returnval>
</FindByUuidResponse></soapenv:Body></soapenv:Envelope>"#;

/// As the Go simulator writes it: the prefix is made from the namespace.
const ODD_PREFIX: &str = r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/"><e:Body>
<R xmlns="urn:vim25"><returnval XMLSchema-instance:type="ArrayOfString" xmlns:XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance">
<string>a</string><string>b</string></returnval></R></e:Body></e:Envelope>"#;

/// Another prefix for the instance namespace, and `xsi` bound to something else.
const LYING_PREFIX: &str = r#"<e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="urn:other"
 xmlns:_XMLSchema-instance="http://www.w3.org/2001/XMLSchema-instance" xmlns:v="urn:vim25"><e:Body><v:R>
<v:returnval xsi:type="Wrong" _XMLSchema-instance:type="v:VirtualDisk"/></v:R></e:Body></e:Envelope>"#;

fn response(text: &str) -> Element {
    match answer(text.as_bytes()).unwrap() {
        Answer::Response(element) => element,
        Answer::Fault(fault) => panic!("{fault}"),
    }
}

#[test]
fn references_arrays_and_types_are_found_by_namespace() {
    let found = response(REAL);
    assert_eq!((found.name.as_str(), found.namespace), ("FindByUuidResponse", Namespace::Vim25));
    assert_eq!(found.reference_of("returnval"), Some(MoRef::vm("vm-62")));

    let array = response(ODD_PREFIX);
    let value = array.child("returnval").unwrap();
    assert_eq!(value.xsi_type.as_deref(), Some("ArrayOfString"));
    assert_eq!(value.all("string").map(|item| item.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    let typed = response(LYING_PREFIX);
    assert_eq!(typed.child("returnval").unwrap().xsi_type.as_deref(), Some("VirtualDisk"));
}

#[test]
fn text_is_put_together_from_all_its_parts() {
    let element = parse("<a>1 &lt; 2 &amp; <![CDATA[3 < 4]]><!-- no -->&#x20AC;&#65;\r\n</a>".as_bytes()).unwrap();
    assert_eq!(element.text, "1 < 2 & 3 < 4€A\n");
    let nil = r#"<a xmlns:i="http://www.w3.org/2001/XMLSchema-instance"><b i:nil="true"/><c>1</c></a>"#;
    let element = parse(nil.as_bytes()).unwrap();
    assert_eq!((element.child("b"), element.number_of::<u8>("c")), (None, Some(1)));
}

#[test]
fn faults_are_keyed_by_type() {
    let text = |detail: &str| {
        format!(
            r#"<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
            <soapenv:Body><soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring></faultstring>{detail}</soapenv:Fault>
            </soapenv:Body></soapenv:Envelope>"#
        )
    };
    let cases = [
        (
            r#"<detail><InvalidPowerStateFault xmlns="urn:vim25" xsi:type="InvalidPowerState"><requestedState>poweredOff</requestedState>
            <existingState>poweredOff</existingState></InvalidPowerStateFault></detail>"#,
            "InvalidPowerState (requestedState poweredOff, existingState poweredOff)",
        ),
        (r#"<detail><NotAuthenticatedFault xmlns="urn:vim25"/></detail>"#, "NotAuthenticated"),
        ("", "ServerFaultCode"),
    ];
    for (detail, expected) in cases {
        let Answer::Fault(fault) = answer(text(detail).as_bytes()).unwrap() else { panic!("no fault in {detail}") };
        assert_eq!(fault.to_string(), expected);
    }
}

#[test]
fn hostile_documents_are_refused() {
    let deep = "<a>".repeat(MAX_DEPTH + 1);
    let cases: [(&[u8], &str); 11] = [
        (b"", "exactly one"),
        (b"text", "exactly one"),
        (b"<a>", "exactly one"),
        (b"<a></b>", "not well-formed"),
        (b"<a/><b/>", "exactly one"),
        (b"<a>\xff</a>", "UTF-8"),
        (b"<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", "type definition"),
        (b"<a>&x;</a>", "entity"),
        (b"<a>&#0;</a>", "not well-formed"),
        (b"<a b></a>", "attribute"),
        (deep.as_bytes(), "deeper"),
    ];
    for (bytes, part) in cases {
        let error = parse(bytes).unwrap_err();
        assert!(error.to_string().contains(part), "{:?} gave {error}", String::from_utf8_lossy(bytes));
    }
    let many = format!("<a>{}</a>", "<b/>".repeat(super::MAX_ELEMENTS));
    assert!(matches!(parse(many.as_bytes()), Err(SoapError::TooManyElements)));
    assert!(matches!(answer(b"<html><body/></html>"), Err(SoapError::NotSoap)));
}

#[test]
fn a_request_escapes_everything_and_closes_in_order() {
    let hostile = "</name><x a=\"b\">&amp; \r\u{e4}";
    let request = Request::new("M", &MoRef::new("T\"<", "i<&d"))
        .text("name", hostile)
        .open("spec")
        .open_as("device", "VirtualDisk")
        .number("key", -1);
    let root = parse(request.envelope().as_bytes()).unwrap();
    let call = root.at(&["Body", "M"]).unwrap();
    assert_eq!((call.namespace, root.namespace), (Namespace::Vim25, Namespace::Envelope));
    assert_eq!(call.reference_of("_this"), Some(MoRef::new("T\"<", "i<&d")));
    assert_eq!(call.text_of("name"), Some(hostile));
    assert_eq!(call.at(&["spec", "device", "key"]).unwrap().number::<i32>(), Some(-1));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
        let _ = answer(&bytes);
    }

    #[test]
    fn no_near_xml_makes_it_panic(
        parts in proptest::collection::vec(
            prop_oneof![
                Just("<a>"), Just("</a>"), Just("<a:b xmlns:a='urn:vim25'>"), Just("</a:b>"), Just("<a x='&lt;' "),
                Just("/>"), Just("<![CDATA["), Just("]]>"), Just("&#x110000;"), Just("&lt;"), Just("&"), Just("<!DOCTYPE"),
                Just("<?xml version='1.0'?>"), Just("xsi:type='v:X'"), Just("\u{feff}"), Just("é"), Just("<!--"), Just("-->"),
            ],
            0..40,
        )
    ) {
        let _ = answer(parts.concat().as_bytes());
    }

    #[test]
    fn any_text_survives_the_way_there(text in "[^\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}]{0,60}") {
        let request = Request::new("M", &MoRef::vm("vm-1")).text("name", &text);
        let root = parse(request.envelope().as_bytes()).unwrap();
        prop_assert_eq!(root.at(&["Body", "M", "name"]).unwrap().text.as_str(), text.as_str());
    }
}
