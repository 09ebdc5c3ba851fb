//! `/folder`: reading datastore files over HTTPS with ranges.
//!
//! Serves descriptors, flat files and deltas; the link a running VM writes is locked and answers 500.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use futures::stream;

use super::devices::AttachedDisk;
use super::disk::{Disk, FlatReadError};
use super::http::{SESSION_COOKIE, cookie, injected};
use super::injection::Effect;
use super::state::Lab;

/// Bytes read from the disk in one go.
const CHUNK_BYTES: u64 = 1 << 20;
/// Key of `/folder` in injected rules.
const RULE_NAME: &str = "/folder";

/// `?dcPath=DC0&dsName=datastore1`
#[derive(Debug, serde::Deserialize)]
pub(crate) struct FolderQuery {
    #[serde(rename = "dcPath")]
    datacenter: Option<String>,
    #[serde(rename = "dsName")]
    datastore: Option<String>,
}

/// How a request showed that it may read.
enum Access {
    /// A session cookie or the account's password.
    Account,
    /// A ticket, which stands for a request straight to a host and needs no datacenter path.
    Ticket,
}

enum Target {
    Descriptor(String),
    Flat(Arc<Disk>),
    /// The file of a delta, by the name of its link.
    Delta(Arc<Disk>, String),
}

/// `GET` and `HEAD` of a datastore file.
pub(crate) async fn read(
    State(lab): State<Arc<Lab>>,
    method: Method,
    uri: Uri,
    Path(path): Path<String>,
    Query(query): Query<FolderQuery>,
    headers: HeaderMap,
) -> Response {
    lab.counters.folder_requests.fetch_add(1, Ordering::Relaxed);
    let Some(access) = authorise(&lab, &headers, &uri) else {
        let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"VMware HTTP server\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    let mut cut = None;
    match lab.injections.take_or_hold(RULE_NAME).await {
        Some(Effect::CutAfter { bytes }) => cut = Some(bytes),
        Some(effect) => return injected(&lab, effect).await,
        None => {}
    }
    let right_datacenter = match (access, &query.datacenter) {
        (Access::Ticket, None) => true,
        (_, Some(path)) => path.trim_matches('/') == lab.inventory.datacenter_path,
        (Access::Account, None) => return StatusCode::BAD_REQUEST.into_response(),
    };
    let target = query.datastore.filter(|_| right_datacenter).and_then(|store| find(&lab, &store, &path));
    match target {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Target::Descriptor(text)) => ([(header::CONTENT_TYPE, "application/octet-stream")], text).into_response(),
        Some(Target::Flat(disk)) => flat(lab, disk, &method, &headers, cut),
        Some(Target::Delta(disk, link)) => delta(&lab, &disk, &link, &method, &headers),
    }
}

fn authorise(lab: &Lab, headers: &HeaderMap, uri: &Uri) -> Option<Access> {
    let by_cookie = cookie(headers, SESSION_COOKIE).and_then(|value| lab.sessions.find(&value, false, lab.now()));
    if by_cookie.is_some() || basic(lab, headers) {
        return Some(Access::Account);
    }
    let ticket = cookie(headers, "vmware_cgi_ticket")?;
    let url = lab.sessions.ticket_url(ticket.trim_matches('"'), lab.config.single_use_tickets)?;
    let path_of = |text: &str| url::Url::parse(text).ok().map(|url| url.path().to_owned());
    (path_of(&url)? == uri.path()).then_some(Access::Ticket)
}

fn basic(lab: &Lab, headers: &HeaderMap) -> bool {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let decoded = value
        .and_then(|value| value.strip_prefix("Basic "))
        .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok());
    decoded.is_some_and(|bytes| bytes == format!("{}:{}", lab.config.username, lab.config.password.expose()).as_bytes())
}

fn find(lab: &Lab, datastore: &str, path: &str) -> Option<Target> {
    let (folder, file) = path.rsplit_once('/')?;
    let disk = lab.inventory.disks.iter().find(|disk| {
        let ours = disk.datastore == datastore && disk.folder == folder;
        let is_link = |name: &String| name == file || delta_link(disk, file).as_ref() == Some(name);
        ours && (file == format!("{}-flat.vmdk", disk.stem) || links_of(disk).iter().any(is_link))
    })?;
    if let Some(link) = delta_link(disk, file) {
        return Some(Target::Delta(Arc::clone(disk), link));
    }
    if !file.ends_with("-flat.vmdk") {
        return Some(Target::Descriptor(descriptor(disk, file)));
    }
    // vSAN keeps objects, not flat files.
    let spec = lab.config.datastores.iter().find(|spec| spec.name == datastore)?;
    (spec.kind != "vsan").then(|| Target::Flat(Arc::clone(disk)))
}

/// The link whose delta is kept in a file of that name.
fn delta_link(disk: &Disk, file: &str) -> Option<String> {
    let (_, _, ending) = disk.delta_format.words();
    file.strip_suffix(ending).map(|stem| format!("{stem}.vmdk"))
}

fn links_of(disk: &Disk) -> Vec<String> {
    disk.link_paths().into_iter().filter_map(|path| path.rsplit('/').next().map(str::to_owned)).collect()
}

/// The text of a VMDK descriptor: a flat extent for the base, a sparse one with its parent for a delta.
fn descriptor(disk: &Disk, file: &str) -> String {
    let sectors = disk.capacity / 512;
    let links = links_of(disk);
    let position = links.iter().position(|name| name == file).unwrap_or_default();
    let stem = file.trim_end_matches(".vmdk");
    let content_id =
        |link: usize| format!("{:08x}", 0x1234_5670_u32.wrapping_add(u32::try_from(link).unwrap_or_default()));
    let parent = position.checked_sub(1).and_then(|below| links.get(below).map(|name| (below, name)));
    let (kind, extent, parent_id, hint) = match parent {
        None => ("vmfs", format!("RW {sectors} VMFS \"{stem}-flat.vmdk\""), "ffffffff".to_owned(), String::new()),
        Some((below, name)) => {
            let (create_type, extent_kind, ending) = disk.delta_format.words();
            let extent = format!("RW {sectors} {extent_kind} \"{stem}{ending}\"");
            (create_type, extent, content_id(below), format!("parentFileNameHint=\"{name}\"\n"))
        }
    };
    format!(
        "# Disk DescriptorFile\nversion=1\nencoding=\"UTF-8\"\nCID={}\nparentCID={parent_id}\ncreateType=\"{kind}\"\n{hint}\
         # Extent description\n{extent}\n\n# The Disk Data Base\n#DDB\n\nddb.adapterType = \"lsilogic\"\n\
         ddb.thinProvisioned = \"1\"\nddb.uuid = \"{}\"\nddb.virtualHWVersion = \"19\"\n",
        content_id(position),
        disk.uuid
    )
}

/// Whether the VM that has the disk runs.
fn is_running(lab: &Lab, disk: &Arc<Disk>) -> bool {
    lab.inventory.vms.values().any(|vm| {
        let state = vm.state.lock();
        state.powered_on && state.disks.iter().filter_map(AttachedDisk::own).any(|own| Arc::ptr_eq(own, disk))
    })
}

fn flat(lab: Arc<Lab>, disk: Arc<Disk>, method: &Method, headers: &HeaderMap, cut: Option<u64>) -> Response {
    if let Err(error) = disk.read_flat(&mut [0], 0, is_running(&lab, &disk)) {
        tracing::debug!(?error, disk = disk.stem, "a flat file was refused");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    let capacity = disk.capacity;
    ranged(capacity, method, headers, |range| stream_body(lab, disk, range, cut))
}

/// A delta's file, made for this request.
fn delta(lab: &Lab, disk: &Arc<Disk>, link: &str, method: &Method, headers: &HeaderMap) -> Response {
    let file = match disk.delta_file(link, is_running(lab, disk)) {
        Ok(file) => Bytes::from(file),
        Err(error) => {
            tracing::debug!(?error, link, "a delta was refused");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    ranged(file.len() as u64, method, headers, |range| {
        lab.counters.folder_bytes.fetch_add(range.end - range.start, Ordering::Relaxed);
        Body::from(file.slice(place(range.start)..place(range.end)))
    })
}

/// Answers with the part of a file that was asked for.
fn ranged(capacity: u64, method: &Method, headers: &HeaderMap, body: impl FnOnce(Range<u64>) -> Body) -> Response {
    let (status, range) = match headers.get(header::RANGE).and_then(|value| value.to_str().ok()) {
        None => (StatusCode::OK, 0..capacity),
        Some(text) => match parse_range(text, capacity) {
            Some(range) => (StatusCode::PARTIAL_CONTENT, range),
            None => {
                let whole = [(header::CONTENT_RANGE, format!("bytes */{capacity}"))];
                return (StatusCode::RANGE_NOT_SATISFIABLE, whole).into_response();
            }
        },
    };
    let length = range.end - range.start;
    let content_range = format!("bytes {}-{}/{capacity}", range.start, range.end - 1);
    let body = if method == Method::HEAD { Body::empty() } else { body(range) };
    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    if let (StatusCode::PARTIAL_CONTENT, Ok(value)) = (status, HeaderValue::from_str(&content_range)) {
        answer.insert(header::CONTENT_RANGE, value);
    }
    response
}

/// One byte range of RFC 9110; several ranges at once are not served.
fn parse_range(text: &str, capacity: u64) -> Option<Range<u64>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let range = match (first, last) {
        ("", suffix) => capacity.saturating_sub(suffix.parse().ok()?)..capacity,
        (start, "") => start.parse().ok()?..capacity,
        (start, end) => start.parse().ok()?..end.parse::<u64>().ok()?.checked_add(1)?.min(capacity),
    };
    (range.start < range.end).then_some(range)
}

struct Reading {
    lab: Arc<Lab>,
    disk: Arc<Disk>,
    at: u64,
    end: u64,
    cut_at: Option<u64>,
}

/// The bytes of a range; ends in an error when the file becomes locked on the way.
fn stream_body(lab: Arc<Lab>, disk: Arc<Disk>, range: Range<u64>, cut: Option<u64>) -> Body {
    let cut_at = cut.map(|bytes| range.start.saturating_add(bytes));
    let reading = Reading { lab, disk, at: range.start, end: range.end, cut_at };
    Body::from_stream(stream::try_unfold(reading, |mut reading| async move {
        if reading.cut_at.is_some_and(|cut| reading.at >= cut) {
            return Err(std::io::Error::other("the transfer was cut on request"));
        }
        if reading.at >= reading.end {
            return Ok(None);
        }
        let stop = reading.cut_at.unwrap_or(u64::MAX).min(reading.end);
        let length = CHUNK_BYTES.min(stop - reading.at);
        let chunk = read_chunk(&reading, length).await?;
        reading.lab.counters.folder_bytes.fetch_add(length, Ordering::Relaxed);
        reading.at += length;
        Ok(Some((chunk, reading)))
    }))
}

async fn read_chunk(reading: &Reading, length: u64) -> std::io::Result<Bytes> {
    let (disk, at) = (Arc::clone(&reading.disk), reading.at);
    let running = is_running(&reading.lab, &disk);
    let read = move || {
        let mut buffer = vec![0_u8; usize::try_from(length).unwrap_or_default()];
        match disk.read_flat(&mut buffer, at, running) {
            Ok(()) => Ok(Bytes::from(buffer)),
            Err(FlatReadError::Locked) => Err(std::io::Error::other("the file is locked by a running VM")),
            Err(FlatReadError::Io(error)) => Err(error),
        }
    };
    tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| Err(std::io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::parse_range;

    #[test]
    fn ranges_follow_the_rfc() {
        assert_eq!(parse_range("bytes=0-0", 10), Some(0..1));
        assert_eq!(parse_range("bytes=4-", 10), Some(4..10));
        assert_eq!(parse_range("bytes=4-99", 10), Some(4..10));
        assert_eq!(parse_range("bytes=-3", 10), Some(7..10));
        for bad in ["bytes=10-", "bytes=5-4", "bytes=x-1", "bits=0-1", "bytes=-0", "bytes=0-1,3-4"] {
            assert_eq!(parse_range(bad, 10), None, "{bad}");
        }
    }
}
