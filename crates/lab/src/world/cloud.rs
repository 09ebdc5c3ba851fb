//! The simulated CloudStack of a world, as tests look at it and reach into it beside its API.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::{LOOK_INTERVAL, World, WorldError, accepted};

impl World {
    /// The volumes of the simulated CloudStack.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn volumes(&self) -> Result<Vec<Value>, WorldError> {
        let volumes = self.get(&format!("{}/lab/volumes", self.addresses.cloudstack_admin)).await?;
        Ok(volumes.as_array().cloned().unwrap_or_default())
    }

    /// What the simulated CloudStack counts: volumes, VMs, attachments, pending jobs, requests.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn cloudstack_state(&self) -> Result<Value, WorldError> {
        self.get(&format!("{}/lab/state", self.addresses.cloudstack_admin)).await
    }

    /// Posts to the laboratory endpoint of the CloudStack.
    ///
    /// # Errors
    /// It refuses.
    pub async fn cloudstack_admin(&self, path: &str, body: &Value) -> Result<Value, WorldError> {
        self.post(&format!("{}{path}", self.addresses.cloudstack_admin), body).await
    }

    /// The VMs of the simulated CloudStack, with their tags and what became of their latest start (`boot`).
    ///
    /// # Errors
    /// It does not answer.
    pub async fn vms(&self) -> Result<Vec<Value>, WorldError> {
        let vms = self.get(&format!("{}/lab/vms", self.addresses.cloudstack_admin)).await?;
        Ok(vms.as_array().cloned().unwrap_or_default())
    }

    /// The snapshots of volumes in the simulated CloudStack.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn snapshots(&self) -> Result<Vec<Value>, WorldError> {
        let all = self.get(&format!("{}/lab/snapshots", self.addresses.cloudstack_admin)).await?;
        Ok(all["snapshots"].as_array().cloned().unwrap_or_default())
    }

    /// VMs, volumes and snapshots in the simulated CloudStack that carry a tag, whatever its value.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn tagged(&self, key: &str) -> Result<Vec<Value>, WorldError> {
        let url = format!("{}/lab/tagged", self.addresses.cloudstack_admin);
        let answer = self.http.get(&url).query(&[("key", key)]).send().await.map_err(WorldError::http(&url))?;
        let found: Value = accepted(&url, answer).await?.json().await.map_err(WorldError::http(&url))?;
        Ok(found.as_array().cloned().unwrap_or_default())
    }

    /// Arms a failure of the simulated CloudStack (`command`, `kind`, `count`, `skip`, `delay_ms`, `pid`); its number.
    ///
    /// # Errors
    /// It refuses.
    pub async fn arm_fault(&self, fault: &Value) -> Result<u64, WorldError> {
        let answer = self.cloudstack_admin("/lab/faults", fault).await?;
        Ok(answer["id"].as_u64().unwrap_or_default())
    }

    /// How often a failure of the simulated CloudStack struck; zero when it was forgotten.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn fault_struck(&self, id: u64) -> Result<u64, WorldError> {
        let all = self.get(&format!("{}/lab/faults", self.addresses.cloudstack_admin)).await?;
        let found = all.as_array().and_then(|all| all.iter().find(|fault| fault["id"].as_u64() == Some(id)));
        Ok(found.and_then(|fault| fault["struck"].as_u64()).unwrap_or(0))
    }

    /// Forgets every failure of the simulated CloudStack.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn clear_cloudstack_faults(&self) -> Result<(), WorldError> {
        let url = format!("{}/lab/faults", self.addresses.cloudstack_admin);
        let answer = self.http.delete(&url).send().await.map_err(WorldError::http(&url))?;
        accepted(&url, answer).await.map(|_| ())
    }

    /// What the serial port of a booted VM said since its latest start.
    ///
    /// # Errors
    /// VMs are not booted in this world, or it does not answer.
    pub async fn console(&self, vm_id: &str) -> Result<String, WorldError> {
        let url = format!("{}/lab/vms/{vm_id}/console?since_start=true", self.addresses.cloudstack_admin);
        let answer = self.http.get(&url).send().await.map_err(WorldError::http(&url))?;
        accepted(&url, answer).await?.text().await.map_err(WorldError::http(&url))
    }

    /// Waits until the serial port of a booted VM says something; gives everything said since its latest start.
    ///
    /// # Errors
    /// It is not said in time: the error has what was.
    pub async fn until_console(&self, vm_id: &str, needle: &str, limit: Duration) -> Result<String, WorldError> {
        let deadline = Instant::now() + limit;
        loop {
            let said = self.console(vm_id).await?;
            if said.contains(needle) {
                return Ok(said);
            }
            if Instant::now() > deadline {
                return Err(WorldError::TooLate { what: format!("{needle:?} on the console of {vm_id}: {said}") });
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }

    /// Saves what the screen of a booted VM shows as PNG; gives the file.
    ///
    /// # Errors
    /// Nothing runs for this VM.
    pub async fn screenshot(&self, vm_id: &str) -> Result<PathBuf, WorldError> {
        let answer = self.cloudstack_admin(&format!("/lab/vms/{vm_id}/screenshot"), &json!({})).await?;
        Ok(PathBuf::from(answer["path"].as_str().unwrap_or_default()))
    }
}
