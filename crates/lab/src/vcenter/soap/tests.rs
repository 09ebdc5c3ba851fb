//! Order and shape checks against requests a real server would refuse.

use super::{Call, check_shape, fault};
use crate::vcenter::fault::Fault;

fn call(body: &str) -> Call {
    let text = format!(
        "<e:Envelope xmlns:e=\"http://schemas.xmlsoap.org/soap/envelope/\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\"><e:Body>{body}</e:Body></e:Envelope>"
    );
    Call::parse(&text).unwrap()
}

fn refused(body: &str) -> String {
    check_shape(&call(body)).unwrap_err().message
}

#[test]
fn parameters_in_order_pass() {
    let good = call(
        "<Login xmlns=\"urn:vim25\"><_this type=\"SessionManager\">SessionManager</_this>\
         <userName>u</userName><password>p</password></Login>",
    );
    assert!(check_shape(&good).is_ok());
    assert_eq!(good.this.id, "SessionManager");
}

#[test]
fn swapped_missing_and_unknown_parameters_are_refused() {
    let head = "<Login xmlns=\"urn:vim25\"><_this type=\"SessionManager\">SessionManager</_this>";
    assert!(refused(&format!("{head}<password>p</password><userName>u</userName></Login>")).contains("out of order"));
    assert!(refused(&format!("{head}<userName>u</userName></Login>")).contains("password is missing"));
    assert!(refused(&format!("{head}<userName>u</userName><password>p</password><x/></Login>")).contains("Unexpected"));
}

#[test]
fn nested_objects_are_checked_by_their_dynamic_type() {
    let spec = |inner: &str| {
        format!(
            "<RetrievePropertiesEx xmlns=\"urn:vim25\"><_this type=\"PropertyCollector\">propertyCollector</_this>\
             <specSet><propSet><type>VirtualMachine</type></propSet><objectSet><obj type=\"ContainerView\">v</obj>\
             <skip>true</skip><selectSet xsi:type=\"TraversalSpec\">{inner}</selectSet></objectSet></specSet>\
             <options/></RetrievePropertiesEx>"
        )
    };
    let good = spec("<name>view</name><type>ContainerView</type><path>view</path><skip>false</skip>");
    assert!(check_shape(&call(&good)).is_ok());
    let swapped = spec("<type>ContainerView</type><name>view</name><path>view</path>");
    assert!(refused(&swapped).contains("out of order"));
    let wrong_number = "<QueryChangedDiskAreas xmlns=\"urn:vim25\"><_this type=\"VirtualMachine\">vm-1</_this>\
        <deviceKey>disk</deviceKey><startOffset>0</startOffset><changeId>*</changeId></QueryChangedDiskAreas>";
    assert!(refused(wrong_number).contains("is not a int"));
}

#[test]
fn faults_carry_namespace_and_type() {
    let text = fault(&Fault::invalid_argument("startOffset"));
    assert!(text.contains("<InvalidArgumentFault xmlns=\"urn:vim25\" xsi:type=\"InvalidArgument\">"), "{text}");
    assert!(text.contains("<invalidProperty>startOffset</invalidProperty>"), "{text}");
    assert!(text.contains("<faultstring>A specified parameter was not correct: startOffset</faultstring>"), "{text}");
}
