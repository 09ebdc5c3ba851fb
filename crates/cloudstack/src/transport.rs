//! One signed HTTP exchange with the API, and the bounded repetition of reads.
//!
//! Writes go as a POST form and are never repeated; reads go as GET. The API key and signature are in the URL of a
//! read, so no URL is ever logged or kept in an error. What an answer means is decided in `answer` and `refusal`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use model::Secret;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use url::Url;

use crate::answer;
use crate::error::CloudstackError;
use crate::params::Params;
use crate::refusal::{Refusal, RefusalClass};
use crate::sign;
use crate::tls::{self, Trust};

/// Largest answer taken, in bytes: 500 fully detailed VMs, the longest page, stay below a quarter of it.
pub(crate) const MAX_BODY_BYTES: usize = 16 * 1024 * 1024;
/// Longest pause between two reads, however long the server asks to wait.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(10);
/// Clock differences below this, in seconds, are not why a signature was refused.
const NOTABLE_SKEW_SECONDS: i64 = 30;

/// Where the API is and who asks.
#[derive(Debug, Clone)]
pub struct ConnectionSettings {
    /// `https://host:8443/client/api`; a URL without a path gets that path.
    pub api_url: String,
    /// API key of the user.
    pub api_key: Secret,
    /// Secret key of the user.
    pub secret_key: Secret,
    /// Whose certificate is accepted; without meaning for `http`.
    pub trust: Trust,
}

/// Times and repetitions; the defaults suit a management network.
#[derive(Debug, Clone, Copy)]
pub struct ClientOptions {
    /// How long a connection may take to open.
    pub connect_timeout: Duration,
    /// How long one ordinary call may take in all.
    pub call_timeout: Duration,
    /// How long a synchronous volume deletion may take: the server erases the disk within the call.
    pub delete_timeout: Duration,
    /// How often a read is tried in all.
    pub read_attempts: u32,
    /// The pause before the second try of a read; it doubles with every try.
    pub first_retry_delay: Duration,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            call_timeout: Duration::from_secs(60),
            delete_timeout: Duration::from_secs(30 * 60),
            read_attempts: 4,
            first_retry_delay: Duration::from_millis(500),
        }
    }
}

/// Whether a call changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// The HTTP side of a client.
pub(crate) struct Transport {
    http: reqwest::Client,
    endpoint: Url,
    api_key: Secret,
    secret_key: Secret,
    pub(crate) options: ClientOptions,
    /// Seconds the server's clock is ahead of ours, as learnt from its `Date` when it refused a signature.
    skew_seconds: AtomicI64,
}

/// An answer as it came.
struct Answer {
    status: u16,
    date: Option<OffsetDateTime>,
    retry_after: Option<Duration>,
    description: String,
    body: Vec<u8>,
}

impl Transport {
    pub(crate) fn new(settings: &ConnectionSettings, options: ClientOptions) -> Result<Self, CloudstackError> {
        let endpoint = endpoint(&settings.api_url)?;
        for (name, key) in [("API key", &settings.api_key), ("secret key", &settings.secret_key)] {
            if key.expose().is_empty() {
                return Err(CloudstackError::Settings(format!("the {name} is empty")));
            }
        }
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(settings.trust.client_config()?)
            .connect_timeout(options.connect_timeout)
            // A redirect would carry a signed request to somebody else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|error| CloudstackError::Settings(error.to_string()))?;
        Ok(Self {
            http,
            endpoint,
            api_key: settings.api_key.clone(),
            secret_key: settings.secret_key.clone(),
            options,
            skew_seconds: AtomicI64::new(0),
        })
    }

    /// The endpoint, without anything secret.
    pub(crate) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// The key this client signs with.
    pub(crate) fn api_key(&self) -> &Secret {
        &self.api_key
    }

    /// Sends a command and answers with the payload inside the envelope.
    pub(crate) async fn call(
        &self,
        params: &Params,
        access: Access,
        timeout: Duration,
    ) -> Result<Value, CloudstackError> {
        let mut attempt = 1;
        let mut signed_again = false;
        loop {
            let (result, date) = self.exchange(params, access, timeout).await;
            let error = match result {
                Ok(payload) => return Ok(payload),
                Err(error) => error,
            };
            // A refused signature was not carried out, so signing again by the server's clock is safe for writes too.
            let refused = error.refusal_class() == Some(RefusalClass::Unauthenticated);
            if refused && !signed_again && self.learn_skew(date) {
                signed_again = true;
                continue;
            }
            if access == Access::Write || !error.kind().is_transient() || attempt >= self.options.read_attempts {
                return Err(error);
            }
            let delay = retry_delay(self.options.first_retry_delay, attempt, error.retry_after());
            tracing::debug!(command = params.command(), attempt, error = %error, "reading again");
            tokio::time::sleep(delay).await;
            attempt += 1;
        }
    }

    async fn exchange(
        &self,
        params: &Params,
        access: Access,
        timeout: Duration,
    ) -> (Result<Value, CloudstackError>, Option<OffsetDateTime>) {
        let started = std::time::Instant::now();
        let answer = match self.send(params, access, timeout).await {
            Ok(answer) => answer,
            Err(error) => return (Err(error), None),
        };
        let command = params.command();
        tracing::debug!(command, status = answer.status, elapsed_ms = started.elapsed().as_millis(), "CloudStack call");
        let date = answer.date;
        (self.interpret(command, &answer), date)
    }

    async fn send(&self, params: &Params, access: Access, timeout: Duration) -> Result<Answer, CloudstackError> {
        let command = params.command();
        let form = self.signed(params);
        let request = match access {
            Access::Read => self.http.get(self.endpoint.clone()).query(&form),
            Access::Write => self.http.post(self.endpoint.clone()).form(&form),
        };
        let response =
            request.timeout(timeout).send().await.map_err(|error| self.not_sent_or_lost(command, access, error))?;
        let status = response.status().as_u16();
        let headers = response.headers();
        let mut answer = Answer {
            status,
            date: header_text(headers, DATE.as_str()).and_then(|text| OffsetDateTime::parse(text, &Rfc2822).ok()),
            retry_after: header_text(headers, RETRY_AFTER.as_str())
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs),
            description: header_text(headers, "x-description").unwrap_or_default().to_owned(),
            body: Vec::new(),
        };
        answer.body = self.bounded_body(command, response).await?;
        Ok(answer)
    }

    /// Every parameter of the request with its signature; the order on the wire is of no importance.
    fn signed(&self, params: &Params) -> BTreeMap<String, String> {
        let now = OffsetDateTime::now_utc() + time::Duration::seconds(self.skew_seconds.load(Ordering::Relaxed));
        let mut form: BTreeMap<String, String> =
            params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        for (name, value) in [
            ("command", params.command()),
            ("response", "json"),
            ("apiKey", self.api_key.expose()),
            ("signatureVersion", "3"),
            ("expires", &sign::expires_at(now)),
        ] {
            form.insert(name.to_owned(), value.to_owned());
        }
        let pairs = form.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signature = sign::signature(pairs, &self.secret_key);
        form.insert("signature".to_owned(), signature);
        form
    }

    async fn bounded_body(&self, command: &str, mut response: reqwest::Response) -> Result<Vec<u8>, CloudstackError> {
        let mut body = Vec::new();
        loop {
            let chunk = response.chunk().await.map_err(|error| CloudstackError::OutcomeUnknown {
                command: command.to_owned(),
                reason: "the answer broke off".to_owned(),
                source: Some(Box::new(error.without_url())),
            })?;
            let Some(chunk) = chunk else { return Ok(body) };
            if body.len() + chunk.len() > MAX_BODY_BYTES {
                return Err(CloudstackError::TooLarge { command: command.to_owned(), limit_bytes: MAX_BODY_BYTES });
            }
            body.extend_from_slice(&chunk);
        }
    }

    fn interpret(&self, command: &str, answer: &Answer) -> Result<Value, CloudstackError> {
        let parsed = answer::payload(&answer.body);
        if let Ok(payload) = &parsed
            && let Some(mut refusal) = refusal_in(command, answer.status, payload)
        {
            refusal.text = self.redacted(&refusal.text);
            refusal.retry_after = answer.retry_after.or(refusal.retry_after);
            return Err(CloudstackError::Refused(Box::new(refusal)));
        }
        match (parsed, answer.status) {
            (Ok(payload), 200..=299) => Ok(payload),
            (_, status @ (401 | 403 | 429 | 503)) => {
                let mut refusal = Refusal::new(command, status, None, &self.redacted(&answer.description));
                refusal.retry_after = answer.retry_after.or(refusal.retry_after);
                Err(CloudstackError::Refused(Box::new(refusal)))
            }
            (_, status @ 300..=499) => Err(CloudstackError::NotTheApi { host: self.host(), status }),
            (parsed, status) => Err(CloudstackError::OutcomeUnknown {
                command: command.to_owned(),
                reason: format!("HTTP {status}"),
                source: parsed.err().map(Into::into),
            }),
        }
    }

    fn not_sent_or_lost(&self, command: &str, access: Access, error: reqwest::Error) -> CloudstackError {
        let error = error.without_url();
        let host = self.host();
        if let Some(certificate) = tls::certificate_error(&error) {
            let seen_thumbprint = tls::mismatched_thumbprint(certificate);
            return CloudstackError::Untrusted { host, seen_thumbprint, source: Box::new(error) };
        }
        let command = command.to_owned();
        if access == Access::Read || error.is_connect() {
            return CloudstackError::Unreachable { host, command, source: Box::new(error) };
        }
        let reason = if error.is_timeout() { "it took too long" } else { "the connection broke" };
        CloudstackError::OutcomeUnknown { command, reason: reason.to_owned(), source: Some(Box::new(error)) }
    }

    /// Takes over the server's clock when it differs notably from the one used so far.
    fn learn_skew(&self, date: Option<OffsetDateTime>) -> bool {
        let Some(date) = date else { return false };
        let skew = (date - OffsetDateTime::now_utc()).whole_seconds();
        let before = self.skew_seconds.swap(skew, Ordering::Relaxed);
        let notable = (skew - before).abs() > NOTABLE_SKEW_SECONDS;
        if notable {
            tracing::warn!(skew_seconds = skew, "the clock of the CloudStack server differs from this machine's");
        }
        notable
    }

    fn redacted(&self, text: &str) -> String {
        text.replace(self.api_key.expose(), "(API key)")
    }

    fn host(&self) -> String {
        let host = self.endpoint.host_str().unwrap_or_default();
        match self.endpoint.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        }
    }
}

/// The endpoint of a URL as people write it.
fn endpoint(text: &str) -> Result<Url, CloudstackError> {
    let wrong = |reason: &str| CloudstackError::Settings(format!("the API URL {reason}"));
    let mut url = Url::parse(text.trim()).map_err(|error| wrong(&format!("cannot be read: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong("must begin with https:// or http://"));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("names no host"));
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must hold neither a user nor a query"));
    }
    match url.path().trim_end_matches('/') {
        "" | "/client" => url.set_path("/client/api"),
        path => {
            let path = path.to_owned();
            url.set_path(&path);
        }
    }
    Ok(url)
}

fn header_text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The refusal a payload holds. The nested `jobresult` of a failed job is not looked at here.
fn refusal_in(command: &str, status: u16, payload: &Value) -> Option<Refusal> {
    let code = payload.get("errorcode").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    if code.is_none() && (200..300).contains(&status) {
        return None;
    }
    let text = payload.get("errortext").and_then(Value::as_str);
    if code.is_none() && text.is_none() {
        return None;
    }
    let cs_error_code = payload.get("cserrorcode").and_then(Value::as_i64);
    Some(Refusal::new(command, code.unwrap_or(status), cs_error_code, text.unwrap_or_default()))
}

/// The pause before the next read: doubling, or as long as the server asks, within bounds.
fn retry_delay(first: Duration, attempt: u32, asked: Option<Duration>) -> Duration {
    let doubled = first.saturating_mul(1 << attempt.saturating_sub(1).min(10));
    doubled.max(asked.unwrap_or_default()).min(MAX_RETRY_DELAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_urls_in_several_ways() {
        for (text, expected) in [
            ("https://cs:8443", "https://cs:8443/client/api"),
            ("http://cs:8080/", "http://cs:8080/client/api"),
            ("https://cs/client/", "https://cs/client/api"),
            ("https://cs/client/api/", "https://cs/client/api"),
            (" https://cs/cloud/api ", "https://cs/cloud/api"),
        ] {
            assert_eq!(endpoint(text).unwrap().as_str(), expected);
        }
        for text in ["cs:8080", "ftp://cs", "https://user:pw@cs/", "https://cs/client/api?apikey=x", "nonsense"] {
            assert!(matches!(endpoint(text), Err(CloudstackError::Settings(_))), "{text}");
        }
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        let first = Duration::from_millis(500);
        for (attempt, asked_ms, expected_ms) in
            [(1, None, 500), (3, None, 2000), (30, None, 10_000), (1, Some(3000), 3000), (1, Some(60_000), 10_000)]
        {
            let delay = retry_delay(first, attempt, asked_ms.map(Duration::from_millis));
            assert_eq!(delay, Duration::from_millis(expected_ms));
        }
    }
}
