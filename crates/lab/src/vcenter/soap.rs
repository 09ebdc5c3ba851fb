//! SOAP envelopes: what a request asks for, and the text of answers and faults.
//!
//! No HTTP and no meaning of any method.

use super::fault::Fault;
use super::schema::{Field, Schema};
use super::value::{MoRef, Value, write_element};
use super::xml::{self, Element};

/// Namespace of every vim25 element.
const VIM25: &str = "urn:vim25";
/// Namespace of SOAP 1.1 envelopes.
const ENVELOPE: &str = "http://schemas.xmlsoap.org/soap/envelope/";

/// One method call.
#[derive(Debug)]
pub(crate) struct Call {
    /// Method name, for example `RetrievePropertiesEx`.
    pub(crate) method: String,
    /// The object it is called on.
    pub(crate) this: MoRef,
    /// The method element with `_this` and the parameters.
    pub(crate) body: Element,
}

impl Call {
    /// Reads an envelope.
    ///
    /// # Errors
    /// `InvalidRequest` when the text is not a SOAP envelope with one vim25 call in it.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        let envelope = xml::parse(text)
            .map_err(|reason| Fault::invalid_request(format!("Unable to parse the request: {reason}")))?;
        if envelope.name != "Envelope" || envelope.namespace != ENVELOPE {
            return Err(Fault::invalid_request("The request is not a SOAP 1.1 envelope"));
        }
        let mut calls = envelope.child("Body").map(|body| body.children.clone()).unwrap_or_default();
        let body = match (calls.pop(), calls.is_empty()) {
            (Some(body), true) if body.namespace == VIM25 => body,
            _ => return Err(Fault::invalid_request("The SOAP body must hold exactly one element of urn:vim25")),
        };
        let this = body
            .children
            .first()
            .filter(|first| first.name == "_this")
            .and_then(reference)
            .ok_or_else(|| Fault::invalid_request("The first child of a call must be _this with a type"))?;
        Ok(Self { method: body.name.clone(), this, body })
    }

    /// The reference in a child element.
    ///
    /// # Errors
    /// `InvalidArgument` when it is absent.
    pub(crate) fn reference(&self, name: &str) -> Result<MoRef, Fault> {
        self.body.child(name).and_then(reference).ok_or_else(|| Fault::invalid_argument(name))
    }

    /// The text of a child element.
    ///
    /// # Errors
    /// `InvalidArgument` when it is absent.
    pub(crate) fn text(&self, name: &str) -> Result<&str, Fault> {
        self.body.text_of(name).ok_or_else(|| Fault::invalid_argument(name))
    }

    /// The number in a child element.
    ///
    /// # Errors
    /// `InvalidArgument` when it is absent or not a number.
    pub(crate) fn number(&self, name: &str) -> Result<i64, Fault> {
        self.body.number(name).ok_or_else(|| Fault::invalid_argument(name))
    }
}

/// Reads a managed object reference element.
pub(crate) fn reference(element: &Element) -> Option<MoRef> {
    let id = element.text.trim();
    let kind = element.reference_type.as_ref()?;
    (!id.is_empty()).then(|| MoRef::new(kind.clone(), id))
}

/// Compares a call with the WSDL: known names only, in order, required ones present, primitive texts well formed.
///
/// A real server refuses what this refuses; vcsim does not, which is why it is checked here.
///
/// # Errors
/// `InvalidRequest` naming the element.
pub(crate) fn check_shape(call: &Call) -> Result<(), Fault> {
    let Some(method) = Schema::get().method(&call.method) else { return Ok(()) };
    check_children(&call.method, &method.parameters, call.body.children.get(1..).unwrap_or_default())
}

fn check_children(owner: &str, fields: &[Field], children: &[Element]) -> Result<(), Fault> {
    let mut position = 0;
    let mut seen = vec![0_usize; fields.len()];
    for child in children {
        let Some(at) = fields.iter().position(|field| field.name == child.name) else {
            return Err(Fault::invalid_request(format!("Unexpected element tag \"{}\" seen in {owner}", child.name)));
        };
        if at < position {
            return Err(Fault::invalid_request(format!(
                "Element \"{}\" of {owner} is out of order: expected {} or later",
                child.name, fields[position].name
            )));
        }
        position = at;
        seen[at] += 1;
        if seen[at] > 1 && !fields[at].many {
            return Err(Fault::invalid_request(format!("Element \"{}\" of {owner} is repeated", child.name)));
        }
        check_value(owner, &fields[at], child)?;
    }
    for (field, count) in fields.iter().zip(&seen) {
        if *count == 0 && !field.optional && !field.many {
            return Err(Fault::invalid_request(format!("Required property {} is missing from {owner}", field.name)));
        }
    }
    Ok(())
}

fn check_value(owner: &str, field: &Field, element: &Element) -> Result<(), Fault> {
    let text = element.text.trim();
    let well_formed = match field.type_name.as_str() {
        "boolean" => matches!(text, "true" | "false" | "1" | "0"),
        "int" => text.parse::<i32>().is_ok(),
        "long" => text.parse::<i64>().is_ok(),
        "ref" => reference(element).is_some(),
        _ => true,
    };
    if !well_formed {
        return Err(Fault::invalid_request(format!(
            "\"{text}\" is not a {} in {owner}.{}",
            field.type_name, field.name
        )));
    }
    let schema = Schema::get();
    let actual = element.xsi_type.as_deref().unwrap_or(&field.type_name);
    let Some(fields) = schema.fields(actual) else { return Ok(()) };
    if schema.fields(&field.type_name).is_some() && !schema.is_a(actual, &field.type_name) {
        return Err(Fault::invalid_request(format!("{actual} is not a {} in {owner}.{}", field.type_name, field.name)));
    }
    check_children(actual, fields, &element.children)
}

/// The envelope of a successful answer; `results` are written as `returnval` elements of the declared type.
pub(crate) fn response(method: &str, declared: &str, results: &Value) -> String {
    let mut inner = String::new();
    write_element(&mut inner, "returnval", declared, results);
    raw_response(method, &inner)
}

/// The envelope around an answer that is already XML (empty for void methods).
pub(crate) fn raw_response(method: &str, inner: &str) -> String {
    envelope(&format!("<{method}Response xmlns=\"{VIM25}\">{inner}</{method}Response>"))
}

/// The envelope of a fault.
pub(crate) fn fault(fault: &Fault) -> String {
    let mut detail = String::new();
    let element = format!("{}Fault", fault.type_name);
    write_element(&mut detail, &element, "", &Value::Object(fault.to_object()));
    // The detail element itself carries the namespace, as real servers write it.
    let detail = detail.replacen(&format!("<{element}"), &format!("<{element} xmlns=\"{VIM25}\""), 1);
    envelope(&format!(
        "<soapenv:Fault><faultcode>ServerFaultCode</faultcode><faultstring>{}</faultstring><detail>{detail}</detail>\
         </soapenv:Fault>",
        quick_xml::escape::escape(fault.message.as_str())
    ))
}

/// The envelope that refuses a `SOAPAction` of a version the server does not speak.
pub(crate) fn version_mismatch(action: &str) -> String {
    envelope(&format!(
        "<soapenv:Fault><faultcode>soapenv:VersionMismatch</faultcode><faultstring>Unsupported version URI {}</faultstring>\
         <detail/></soapenv:Fault>",
        quick_xml::escape::escape(action)
    ))
}

fn envelope(body: &str) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<soapenv:Envelope xmlns:soapenc=\"http://schemas.xmlsoap.org/soap/encoding/\" \
         xmlns:soapenv=\"{ENVELOPE}\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\" \
         xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\">\n<soapenv:Body>\n{body}\n</soapenv:Body>\n</soapenv:Envelope>"
    )
}

#[cfg(test)]
mod tests;
