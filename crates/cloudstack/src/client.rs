//! The client everybody shares: cheap to clone, no state but connections and what was learnt of the server's clock.
//!
//! The typed commands are in the files of their resources. Here is only how a call is made.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::async_job::JobHandle;
use crate::error::CloudstackError;
use crate::params::Params;
use crate::transport::{Access, ClientOptions, ConnectionSettings, Transport};
use crate::wire;

/// A client of one CloudStack, as one user.
#[derive(Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.transport.endpoint().as_str()).finish_non_exhaustive()
    }
}

impl Client {
    /// A client with the default times. Nothing is sent yet.
    ///
    /// # Errors
    /// [`CloudstackError::Settings`] when URL, keys, CA or thumbprint cannot be used.
    pub fn new(settings: &ConnectionSettings) -> Result<Self, CloudstackError> {
        Self::with_options(settings, ClientOptions::default())
    }

    /// A client with chosen times.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with_options(settings: &ConnectionSettings, options: ClientOptions) -> Result<Self, CloudstackError> {
        Ok(Self { transport: Arc::new(Transport::new(settings, options)?) })
    }

    /// The API endpoint in use, without anything secret.
    #[must_use]
    pub fn api_url(&self) -> &str {
        self.transport.endpoint().as_str()
    }

    /// A command that changes nothing; its payload.
    pub(crate) async fn read_payload(&self, params: &Params) -> Result<Value, CloudstackError> {
        self.transport.call(params, Access::Read, self.transport.options.call_timeout).await
    }

    /// A command that changes nothing, decoded.
    pub(crate) async fn read<T: DeserializeOwned>(&self, params: &Params) -> Result<T, CloudstackError> {
        decode(params.command(), self.read_payload(params).await?)
    }

    /// A command that changes something and ends within the call; its payload.
    pub(crate) async fn write_payload(&self, params: &Params) -> Result<Value, CloudstackError> {
        self.transport.call(params, Access::Write, self.transport.options.call_timeout).await
    }

    /// As [`Self::write_payload`] for commands that answer only whether they succeeded.
    pub(crate) async fn write_success(
        &self,
        params: &Params,
        timeout: std::time::Duration,
    ) -> Result<(), CloudstackError> {
        let payload = self.transport.call(params, Access::Write, timeout).await?;
        let success: Success = decode(params.command(), payload)?;
        if success.success {
            return Ok(());
        }
        let text = success.displaytext.unwrap_or_else(|| "the server answered success = false".to_owned());
        let refusal = crate::refusal::Refusal::new(params.command(), 530, None, &text);
        Err(CloudstackError::Refused(Box::new(refusal)))
    }

    /// Submits an asynchronous command. The job runs on whether or not anybody waits for it.
    pub(crate) async fn submit(&self, params: &Params) -> Result<JobHandle, CloudstackError> {
        let handle: JobHandle = decode(params.command(), self.write_payload(params).await?)?;
        tracing::info!(command = params.command(), job_id = %handle.job_id, entity_id = handle.entity_id, "submitted");
        Ok(handle)
    }
}

#[derive(Deserialize)]
struct Success {
    #[serde(default, deserialize_with = "wire::truth")]
    success: bool,
    #[serde(default, deserialize_with = "wire::text")]
    displaytext: Option<String>,
}

/// Decodes a payload.
pub(crate) fn decode<T: DeserializeOwned>(command: &str, payload: Value) -> Result<T, CloudstackError> {
    serde_json::from_value(payload)
        .map_err(|source| CloudstackError::UnexpectedAnswer { command: command.to_owned(), source })
}

/// Decodes the one entity in a payload such as `{"virtualmachine": {…}}`.
pub(crate) fn decode_entity<T: DeserializeOwned>(
    command: &str,
    key: &str,
    mut payload: Value,
) -> Result<T, CloudstackError> {
    let entity = payload.get_mut(key).map(Value::take).unwrap_or_default();
    decode(command, entity)
}
