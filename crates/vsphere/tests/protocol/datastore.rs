//! Reading a disk from `/folder`, through the server and straight from a host.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::Response;
use model::FailureKind;
use vsphere::{FolderAccess, FolderDisk, Trust, VimSession, VsphereError};

use crate::server::{Call, Reply, Server, status};
use crate::trust::{Certificate, tls};

const SIZE: u64 = 20 * 1024 * 1024;

fn byte_at(offset: u64) -> u8 {
    u8::try_from((offset ^ (offset >> 8) ^ (offset >> 16)) & 0xff).unwrap()
}

fn descriptor() -> String {
    format!(
        "# Disk DescriptorFile\nversion=1\nparentCID=ffffffff\ncreateType=\"vmfs\"\nRW {} VMFS \"web 1-flat.vmdk\"\n",
        SIZE / 512
    )
}

fn partial(first: u64, last: u64, total: u64, body: Vec<u8>) -> Reply {
    let response = Response::builder().status(206).header("content-range", format!("bytes {first}-{last}/{total}"));
    Reply::Http(response.body(Body::from(body)).unwrap())
}

fn file(call: &Call) -> Reply {
    if call.method == "HEAD" {
        return Reply::Http(Response::builder().header("content-length", SIZE).body(Body::empty()).unwrap());
    }
    if call.has("/web%201.vmdk?") {
        return Reply::Http(status(200, &descriptor()));
    }
    let (first, last) = call.range.unwrap();
    assert!(last - first < 8 * 1024 * 1024 && last < SIZE, "{first}-{last}");
    partial(first, last, SIZE, (first..=last).map(byte_at).collect())
}

fn disk(access: FolderAccess) -> FolderDisk {
    FolderDisk {
        datacenter_path: "EU/DC 0".to_owned(),
        vmdk_path: "[ds & 1] web 1/web 1.vmdk".to_owned(),
        capacity_bytes: SIZE,
        access,
    }
}

#[tokio::test]
async fn a_disk_is_read_in_ranges_and_over_the_end_of_a_session() {
    let server = Server::start(file).await;
    let session = server.session().await;
    let opened = session.open_folder_disk(&disk(FolderAccess::ViaServer)).await.unwrap();
    assert_eq!((opened.size_bytes(), opened.path().to_string()), (SIZE, "[ds & 1] web 1/web 1-flat.vmdk".to_owned()));
    assert_eq!(server.calls()[0].body, "/folder/web%201/web%201.vmdk?dcPath=EU%2FDC%200&dsName=ds%20%26%201");

    let mut large = vec![0; 17 * 1024 * 1024];
    opened.read_at(12_345, &mut large).await.unwrap();
    assert!(large.iter().zip(12_345..).all(|(&byte, offset)| byte == byte_at(offset)));
    server.expire();
    let mut tail = [0; 3];
    opened.read_at(SIZE - 3, &mut tail).await.unwrap();
    assert_eq!(tail, [byte_at(SIZE - 3), byte_at(SIZE - 2), byte_at(SIZE - 1)]);
    assert_eq!(server.logins(), 2);
    opened.read_at(SIZE, &mut []).await.unwrap();
    for (offset, length) in [(SIZE - 2, 3), (SIZE, 1), (u64::MAX, 2)] {
        let refused = opened.read_at(offset, &mut vec![0; length]).await;
        assert!(matches!(refused, Err(VsphereError::WrongRange { .. })), "{offset}+{length}");
    }
}

#[tokio::test]
async fn why_a_disk_cannot_be_opened_is_told() {
    type Answer = fn(&Call) -> Reply;
    let cases: [(Answer, &str, FailureKind); 6] = [
        (|_| Reply::Http(status(404, "")), "there is no file", FailureKind::NotFound),
        (|_| Reply::Http(status(500, "")), "locked", FailureKind::Conflict),
        (|_| Reply::Http(status(403, "")), "status 403", FailureKind::Forbidden),
        (|_| Reply::Http(status(503, "")), "status 503", FailureKind::Unavailable),
        (|_| Reply::Http(status(200, "KDMV")), "not a disk descriptor", FailureKind::Invalid),
        (
            |call| match call.method.as_str() {
                "HEAD" => Reply::Http(status(200, "too short")),
                _ => Reply::Http(status(200, &descriptor())),
            },
            "the disk has",
            FailureKind::Invalid,
        ),
    ];
    for (answer, part, kind) in cases {
        let server = Server::start(answer).await;
        let error = server.session().await.open_folder_disk(&disk(FolderAccess::ViaServer)).await.err().unwrap();
        assert!(error.to_string().contains(part), "{error} does not say {part:?}");
        assert_eq!(error.kind(), kind, "{error}");
    }
}

#[tokio::test]
async fn only_exactly_the_range_asked_for_is_taken() {
    type Answer = fn(u64, u64) -> Reply;
    let cases: [(Answer, &str); 5] = [
        (|_, _| Reply::Http(status(200, "whole")), "whole file"),
        (|first, last| partial(first + 512, last + 512, SIZE, vec![0; 512]), "asked was"),
        (|first, last| partial(first, last, SIZE, vec![0; 100]), "fewer bytes"),
        (|first, last| partial(first, last, SIZE, vec![0; 513]), "more bytes"),
        (|_, _| Reply::Http(status(206, "")), "asked was"),
    ];
    for (answer, part) in cases {
        let server = Server::start(move |call| match call.range {
            Some((4096, last)) => answer(4096, last),
            _ => file(call),
        })
        .await;
        let opened = server.session().await.open_folder_disk(&disk(FolderAccess::ViaServer)).await.unwrap();
        let error = opened.read_at(4096, &mut [0; 512]).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error} does not say {part:?}");
    }
}

#[tokio::test]
async fn the_length_is_found_where_head_is_not_allowed() {
    let server =
        Server::start(|call| if call.method == "HEAD" { Reply::Http(status(405, "")) } else { file(call) }).await;
    let opened = server.session().await.open_folder_disk(&disk(FolderAccess::ViaServer)).await.unwrap();
    assert_eq!(opened.size_bytes(), SIZE);
}

/// A host that takes each ticket once, and a vCenter that issues them.
#[tokio::test]
async fn a_host_is_read_directly_with_single_use_tickets() {
    let tickets: Arc<Mutex<HashSet<String>>> = Arc::default();
    let valid = Arc::clone(&tickets);
    let certificate = Certificate::new();
    let host = Server::start_tls(tls(&certificate), move |call| {
        assert!(!call.has("dcPath"), "hosts want no datacenter");
        if valid.lock().unwrap().remove(&call.cookie) { file(call) } else { Reply::Http(status(401, "")) }
    })
    .await;
    let thumbprint = certificate.sha1();
    let issued = Mutex::new(0);
    let vcenter = Server::start(move |call| {
        assert_eq!(call.method, "AcquireGenericServiceTicket");
        assert!(call.has("<spec xsi:type=\"SessionManagerHttpServiceRequestSpec\"><method>http"));
        let mut issued = issued.lock().unwrap();
        *issued += 1;
        tickets.lock().unwrap().insert(format!("vmware_cgi_ticket=52-{issued}"));
        Reply::Ok(format!(
            "<returnval><id>52-{issued}</id><hostName>127.0.0.1</hostName><sslThumbprint>{thumbprint}</sslThumbprint></returnval>"
        ))
    })
    .await;
    let session: VimSession = VimSession::connect(vcenter.trusting(Trust::SystemRoots)).await.unwrap();
    let access = FolderAccess::HostDirect { host: host.address.to_string() };
    let opened = session.open_folder_disk(&disk(access)).await.unwrap();
    for offset in [0, 512, 1024] {
        let mut buffer = [0; 512];
        opened.read_at(offset, &mut buffer).await.unwrap();
        assert_eq!(buffer[0], byte_at(offset));
    }
    // Descriptor, HEAD, three reads and the one refusal that taught that tickets are for one request only.
    assert_eq!((vcenter.count("AcquireGenericServiceTicket"), host.count("GET")), (5, 5));
}
