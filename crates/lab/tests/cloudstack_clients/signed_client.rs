//! A minimal CloudStack caller for these tests: signs, sends, waits for jobs.

use std::time::Duration;

use lab::cloudstack::signature_of;
use serde_json::Value;

/// How long a test waits for one job.
const JOB_DEADLINE: Duration = Duration::from_secs(120);
/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A key pair at an endpoint.
#[derive(Clone)]
pub(crate) struct SignedClient {
    url: String,
    key: String,
    secret: String,
    http: reqwest::Client,
}

impl SignedClient {
    pub(crate) fn new(url: &str, key: &str, secret: &str) -> Self {
        let _already = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let http = reqwest::Client::builder().timeout(REQUEST_TIMEOUT).build().expect("an HTTP client");
        Self { url: url.to_owned(), key: key.to_owned(), secret: secret.to_owned(), http }
    }

    /// The form of a request, signed as version 3.
    pub(crate) fn form(&self, command: &str, parameters: &[(&str, &str)]) -> Vec<(String, String)> {
        let fixed = [
            ("command", command),
            ("apiKey", self.key.as_str()),
            ("response", "json"),
            ("signatureVersion", "3"),
            ("expires", "2099-01-01T00:00:00+0000"),
        ];
        let mut form: Vec<(String, String)> =
            fixed.iter().chain(parameters).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        form.push(("signature".to_owned(), signature_of(&form, &self.secret)));
        form
    }

    /// Posts a form as it is.
    pub(crate) async fn post(&self, form: &[(String, String)]) -> reqwest::Result<(u16, String)> {
        let response = self.http.post(&self.url).form(form).send().await?;
        let status = response.status().as_u16();
        Ok((status, response.text().await?))
    }

    /// Sends a command; returns status and the content of the envelope.
    pub(crate) async fn call(&self, command: &str, parameters: &[(&str, &str)]) -> (u16, Value) {
        let (status, text) = self.post(&self.form(command, parameters)).await.expect("an answer");
        let mut body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
        let object = body.as_object_mut().expect("an object");
        assert_eq!(object.len(), 1, "one top-level key: {text}");
        let key = object.keys().next().cloned().expect("a key");
        (status, object.remove(&key).expect("its content"))
    }

    /// Sends a command that must succeed.
    pub(crate) async fn ok(&self, command: &str, parameters: &[(&str, &str)]) -> Value {
        let (status, content) = self.call(command, parameters).await;
        assert_eq!(status, 200, "{command}: {content}");
        content
    }

    /// Sends a command that must be refused; returns status and text.
    pub(crate) async fn refused(&self, command: &str, parameters: &[(&str, &str)]) -> (u16, String) {
        let (status, content) = self.call(command, parameters).await;
        assert_ne!(status, 200, "{command} was not refused: {content}");
        assert_eq!(content["errorcode"], status);
        (status, content["errortext"].as_str().expect("a text").to_owned())
    }

    /// Submits a command and waits for the end of its job, whatever it is.
    pub(crate) async fn job(&self, command: &str, parameters: &[(&str, &str)]) -> Value {
        let submitted = self.ok(command, parameters).await;
        self.end_of(submitted["jobid"].as_str().expect("a job id")).await
    }

    /// Waits for the end of a job.
    pub(crate) async fn end_of(&self, job_id: &str) -> Value {
        let polls = async {
            loop {
                let job = self.ok("queryAsyncJobResult", &[("jobid", job_id)]).await;
                if job["jobstatus"] != 0 {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(JOB_DEADLINE, polls).await.expect("the job ends in time")
    }

    /// Submits a command whose job must succeed; returns its result.
    pub(crate) async fn done(&self, command: &str, parameters: &[(&str, &str)]) -> Value {
        let job = self.job(command, parameters).await;
        assert_eq!(job["jobstatus"], 1, "{command}: {job}");
        job["jobresult"].clone()
    }

    /// Submits a command whose job must fail; returns code and text.
    pub(crate) async fn fails(&self, command: &str, parameters: &[(&str, &str)]) -> (u64, String) {
        let job = self.job(command, parameters).await;
        assert_eq!(job["jobstatus"], 2, "{command}: {job}");
        assert_eq!(job["jobresultcode"], job["jobresult"]["errorcode"]);
        let text = job["jobresult"]["errortext"].as_str().expect("a text");
        (job["jobresultcode"].as_u64().expect("a code"), text.to_owned())
    }
}
