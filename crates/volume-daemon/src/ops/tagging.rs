//! Marks what we make as ours, and tells what is.

use std::collections::BTreeMap;

use cloudstack::{ResourceTag, TaggedKind};

use super::cloud_job::ended;
use crate::clouds::Cloud;
use crate::daemon::Daemon;
use crate::error::VolumeDaemonError;

/// The value of a tag.
pub(super) fn value_of<'a>(tags: &'a [ResourceTag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key == key).map(|tag| tag.value.as_str())
}

/// Puts the tags that are missing on a resource: the server refuses those that are there.
pub(super) async fn put(
    daemon: &Daemon,
    cloud: &Cloud,
    (kind, resource_id): (TaggedKind, &str),
    present: &[ResourceTag],
    wanted: [(&str, &str); 3],
) -> Result<(), VolumeDaemonError> {
    let missing: BTreeMap<String, String> = wanted
        .into_iter()
        .filter(|(key, _)| value_of(present, key).is_none())
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let handle = cloud.client().create_tags(kind, resource_id, &missing).await?;
    ended(daemon, cloud, &handle.job_id).await?;
    Ok(())
}
