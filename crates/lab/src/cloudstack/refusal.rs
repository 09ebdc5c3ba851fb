//! The server's refusals: HTTP status, `cserrorcode` and text, and the JSON they travel in.
//!
//! The texts are part of the protocol as clients meet it; they are not ours to improve.

use super::json::{Json, Object};

/// A request (or a job) that the server turns down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// HTTP status, also `errorcode`.
    pub(crate) status: u16,
    /// `cserrorcode`; 401 answers carry none.
    pub(crate) cserrorcode: Option<u32>,
    /// `errortext` and the `X-Description` header.
    pub(crate) text: String,
    /// The exception's class decides what a failing job reports: only bad parameters keep 431.
    class: Class,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Parameter,
    Unsupported,
    Other,
}

impl Refusal {
    fn new(status: u16, cserrorcode: Option<u32>, class: Class, text: String) -> Self {
        Self { status, cserrorcode, text, class }
    }

    /// Bad signature, unknown key, expired request: one text for all of them.
    pub(crate) fn unauthenticated() -> Self {
        let text = "unable to verify user credentials and/or request signature";
        Self::new(401, None, Class::Other, text.to_owned())
    }

    /// A command the caller's role does not hold.
    pub(crate) fn outside_role(command: &str) -> Self {
        let text = format!("The given command '{command}' either does not exist, is not available for user.");
        Self::new(401, None, Class::Other, text)
    }

    /// A command outside the server's repertoire.
    pub(crate) fn unknown_command(command: &str) -> Self {
        Self::new(432, Some(9999), Class::Unsupported, format!("Unknown API command: {command}"))
    }

    /// A service-level parameter error (`InvalidParameterValueException`).
    pub(crate) fn invalid(text: impl Into<String>) -> Self {
        Self::new(431, Some(4350), Class::Parameter, text.into())
    }

    /// A parameter error found before the service is asked (`ServerApiException`).
    pub(crate) fn parameter(text: impl Into<String>) -> Self {
        Self::new(431, Some(9999), Class::Parameter, text.into())
    }

    /// A required parameter is absent.
    pub(crate) fn missing(command: &str, parameter: &str) -> Self {
        Self::parameter(format!(
            "Unable to execute API command {} due to missing parameter {parameter}",
            command.to_lowercase()
        ))
    }

    /// A parameter that cannot be read as its type.
    pub(crate) fn bad_value(command: &str, parameter: &str, value: &str) -> Self {
        Self::parameter(format!(
            "Unable to execute API command {} due to invalid value {value} for parameter {parameter}",
            command.to_lowercase()
        ))
    }

    /// A UUID parameter that names nothing: CloudStack's "not found".
    pub(crate) fn no_such_entity(command: &str, parameter: &str, value: &str) -> Self {
        Self::parameter(format!(
            "Unable to execute API command {} due to invalid value. Invalid parameter {parameter} value={value} due to \
             incorrect long value format, or entity does not exist or due to incorrect parameter annotation for the field \
             in api cmd class.",
            command.to_lowercase()
        ))
    }

    /// The caller may not do this (`PermissionDeniedException`).
    pub(crate) fn denied(text: impl Into<String>) -> Self {
        Self::new(531, Some(4365), Class::Other, text.into())
    }

    /// A limit of the account or the server is reached (`ResourceAllocationException`).
    pub(crate) fn allocation(text: impl Into<String>) -> Self {
        Self::new(535, Some(4370), Class::Other, text.into())
    }

    /// An operation failed inside the server (`CloudRuntimeException`).
    pub(crate) fn runtime(text: impl Into<String>) -> Self {
        Self::new(530, Some(4250), Class::Other, text.into())
    }

    /// A request that is malformed as HTTP or must be a POST.
    pub(crate) fn malformed(text: impl Into<String>) -> Self {
        Self::new(400, Some(9999), Class::Other, text.into())
    }

    /// The server is shutting down.
    pub(crate) fn shutting_down() -> Self {
        let text = "Maintenance or Shutdown has been initiated on this management server. Can not accept new jobs";
        Self::new(503, Some(9999), Class::Other, text.to_owned())
    }

    /// The API rate limit is reached.
    pub(crate) fn rate_limited(retry_after_ms: u64) -> Self {
        let text =
            format!("The given user has reached his/her account api limit, please retry after [{retry_after_ms}] ms.");
        Self::new(429, Some(9999), Class::Other, text)
    }

    /// The same refusal as a job of the given command reports it.
    pub(crate) fn code_in_job(&self, command: &str) -> u16 {
        match (command, self.class) {
            ("resizeVolume", _) | (_, Class::Unsupported) => 432,
            (_, Class::Parameter) => 431,
            (_, Class::Other) => 530,
        }
    }

    /// The body: the command's own key, `errorresponse` for unsupported commands, `null` without a command.
    pub(crate) fn body(&self, command: Option<&str>) -> Json {
        let key = match command {
            _ if self.class == Class::Unsupported => "errorresponse".to_owned(),
            Some(command) => format!("{}response", command.to_lowercase()),
            None => "null".to_owned(),
        };
        let error = Object::new()
            .put("uuidList", Vec::<Json>::new())
            .put("errorcode", u32::from(self.status))
            .maybe("cserrorcode", self.cserrorcode)
            .put("errortext", &self.text);
        Object::new().put(&key, error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_have_the_shapes_of_the_protocol() {
        let cases = [
            (
                Refusal::unauthenticated().body(Some("listZones")).render(),
                r#"{"listzonesresponse":{"uuidList":[],"errorcode":401,"errortext":"unable to verify user credentials and/or request signature"}}"#,
            ),
            (
                Refusal::invalid("Please specify a volume that is not attached to any VM.")
                    .body(Some("deleteVolume"))
                    .render(),
                r#"{"deletevolumeresponse":{"uuidList":[],"errorcode":431,"cserrorcode":4350,"errortext":"Please specify a volume that is not attached to any VM."}}"#,
            ),
            (
                Refusal::unknown_command("makeCoffee").body(Some("makeCoffee")).render(),
                r#"{"errorresponse":{"uuidList":[],"errorcode":432,"cserrorcode":9999,"errortext":"Unknown API command: makeCoffee"}}"#,
            ),
            (
                Refusal::malformed("x").body(None).render(),
                r#"{"null":{"uuidList":[],"errorcode":400,"cserrorcode":9999,"errortext":"x"}}"#,
            ),
        ];
        for (found, expected) in cases {
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn only_parameter_errors_keep_their_code_in_a_job() {
        assert_eq!(Refusal::invalid("").code_in_job("attachVolume"), 431);
        assert_eq!(Refusal::denied("").code_in_job("attachVolume"), 530);
        assert_eq!(Refusal::runtime("").code_in_job("attachVolume"), 530);
        assert_eq!(Refusal::invalid("").code_in_job("resizeVolume"), 432);
    }
}
