//! Calls and lists over real HTTP against a scripted server: envelopes, paging, refusals, repeats, secrets.

use std::collections::BTreeMap;

use crate::scripted::{API_KEY, SECRET_KEY, Scripted, ok, quick, refusal, settings, silence, status};
use cloudstack::{
    CloudstackError, Deletion, NewVolume, RefusalClass, Submission, TagQuery, TaggedKind, VmChange, VolumeAuthority,
    VolumeOperations, VolumeQuery,
};
use model::FailureKind;

const NOT_FOUND: &str = "Unable to execute API command x due to invalid value. Invalid parameter id value=5b1d due to \
    incorrect long value format, or entity does not exist or due to incorrect parameter annotation for the field in \
    api cmd class.";

fn rows(count: usize, ids: &[&str]) -> String {
    let rows: Vec<String> = ids.iter().map(|id| format!(r#"{{"id":"{id}","name":"n","tags":[]}}"#)).collect();
    format!(r#"{{"listvolumesresponse":{{"count":{count},"volume":[{}]}}}}"#, rows.join(","))
}

fn operations(server: &Scripted) -> VolumeOperations {
    VolumeOperations::new(server.client(), VolumeAuthority::for_volume_daemon())
}

async fn volume_ids(server: &Scripted) -> Result<Vec<String>, CloudstackError> {
    let volumes = server.client().list_volumes(&VolumeQuery::default()).await?;
    Ok(volumes.into_iter().map(|volume| volume.id).collect())
}

#[tokio::test]
async fn an_empty_list_has_neither_count_nor_array() {
    let server = Scripted::start().await;
    server.expect("listVolumes", [ok(r#"{"listvolumesresponse":{}}"#)]);
    assert_eq!(volume_ids(&server).await.unwrap(), Vec::<String>::new());
    let asked = server.asked("listVolumes");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].method, "GET");
    for (name, value) in [("page", "1"), ("pagesize", "500"), ("listall", "true"), ("signatureVersion", "3")] {
        assert_eq!(asked[0].params.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn pages_are_read_to_the_end_and_repeated_rows_dropped() {
    let server = Scripted::start().await;
    // A row moved to the second page while it was read, and the total shrank: the page past the end has no array.
    server.expect(
        "listVolumes",
        [ok(rows(5, &["a", "b"])), ok(rows(5, &["b", "c"])), ok(r#"{"listvolumesresponse":{"count":4}}"#)],
    );
    assert_eq!(volume_ids(&server).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(server.asked("listVolumes")[2].params["page"], "3");
}

#[tokio::test]
async fn a_smaller_page_size_is_taken_from_the_refusal() {
    let server = Scripted::start().await;
    let too_large = refusal(431, Some(9999), "Page size can't exceed max allowed page size value: 2");
    server.expect("listVolumes", [too_large, ok(rows(3, &["a", "b"])), ok(rows(3, &["c"]))]);
    assert_eq!(volume_ids(&server).await.unwrap(), ["a", "b", "c"]);
    assert_eq!(server.asked("listVolumes")[1].params["pagesize"], "2");
}

#[tokio::test]
async fn a_list_without_end_is_given_up() {
    let server = Scripted::start().await;
    server.always("listVolumes", ok(rows(1_000_000, &["a"])));
    let error = volume_ids(&server).await.unwrap_err();
    assert!(matches!(error, CloudstackError::TooManyPages { pages: 200, .. }), "{error}");
}

#[tokio::test]
async fn raw_control_characters_and_stray_backslashes_are_read() {
    let server = Scripted::start().await;
    let row = "{\"listvolumesresponse\":{\"count\":1,\"volume\":[{\"id\":\"a\",\"name\":\"x\u{1}\n\\=<&>\"}]}}";
    server.expect("listVolumes", [ok(row)]);
    let volumes = server.client().list_volumes(&VolumeQuery::default()).await.unwrap();
    assert_eq!(volumes[0].name, "x\u{1}\n\\=<&>");
}

#[tokio::test]
async fn reads_are_repeated_on_passing_faults_a_bounded_number_of_times() {
    for fault in [status(503, ""), status(502, "<html/>"), status(200, ""), refusal(429, None, "retry after [1] ms.")] {
        let server = Scripted::start().await;
        server.expect("listVolumes", [fault.clone(), fault.clone(), ok(rows(1, &["a"]))]);
        assert_eq!(volume_ids(&server).await.unwrap(), ["a"]);
        server.always("listVolumes", fault);
        let error = volume_ids(&server).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Unavailable, "{error}");
        assert_eq!(server.asked("listVolumes").len(), 6);
    }
}

#[tokio::test]
async fn writes_are_never_repeated() {
    for (fault, unknown) in [
        (status(503, ""), false),
        (refusal(503, None, "Maintenance or Shutdown has been initiated"), false),
        (status(200, "").with_header("content-type", "text/xml"), true),
        (status(500, "<html/>"), true),
    ] {
        let server = Scripted::start().await;
        server.always("detachVolume", fault);
        let error = operations(&server).detach("v").await.unwrap_err();
        assert_eq!((error.kind(), error.is_outcome_unknown()), (FailureKind::Unavailable, unknown), "{error}");
        let asked = server.asked("detachVolume");
        assert_eq!((asked.len(), asked[0].method.as_str(), asked[0].query.as_str()), (1, "POST", ""));
    }
}

#[tokio::test]
async fn a_write_without_an_answer_in_time_has_an_unknown_outcome() {
    let server = Scripted::start().await;
    server.always("deleteVolume", silence());
    let error = operations(&server).delete("v").await.unwrap_err();
    assert!(matches!(error, CloudstackError::OutcomeUnknown { .. }), "{error}");
    assert_eq!(server.asked("deleteVolume").len(), 1);
}

#[tokio::test]
async fn deletions() {
    let server = Scripted::start().await;
    let volumes = operations(&server);
    server.expect(
        "deleteVolume",
        [
            ok(r#"{"deletevolumeresponse":{"success":true}}"#),
            ok(r#"{"deletevolumeresponse":{"success":"true"}}"#),
            refusal(431, Some(9999), NOT_FOUND),
            ok(r#"{"deletevolumeresponse":{"success":false,"displaytext":"Failed to delete volume"}}"#),
            refusal(431, Some(4350), "Please specify a volume that is not attached to any VM."),
        ],
    );
    assert_eq!(volumes.delete("v").await.unwrap(), Deletion::Deleted);
    assert_eq!(volumes.delete("v").await.unwrap(), Deletion::Deleted);
    assert_eq!(volumes.delete("v").await.unwrap(), Deletion::AlreadyGone);
    assert_eq!(volumes.delete("v").await.unwrap_err().kind(), FailureKind::Internal);
    let attached = volumes.delete("v").await.unwrap_err();
    assert_eq!((attached.kind(), attached.refusal_class()), (FailureKind::Conflict, Some(RefusalClass::Attached)));
    assert!(attached.remedy().is_some_and(|remedy| remedy.contains("detach")));
}

#[tokio::test]
async fn a_chosen_id_makes_a_repeated_creation_safe() {
    let id = "1d8d87d4-1425-459c-8d81-c6f57dca2bd2";
    let new = NewVolume {
        name: "migration-vm1-disk-0".into(),
        zone_id: "z".into(),
        disk_offering_id: "d".into(),
        size_gib: 2,
        custom_id: Some(id.to_uppercase()),
        owner: None,
    };
    let server = Scripted::start().await;
    let taken = format!("UUID: {id} already exists so can't create/update with custom id");
    server.expect(
        "createVolume",
        [
            ok(format!(r#"{{"createvolumeresponse":{{"id":"{id}","jobid":"a2c4"}}}}"#)),
            refusal(431, Some(4350), &taken),
            refusal(431, Some(4350), &taken),
        ],
    );
    let found = |size: u64| {
        ok(format!(
            r#"{{"listvolumesresponse":{{"count":1,"volume":[{{"id":"{id}","zoneid":"z","size":{size},"state":"Allocated"}}]}}}}"#
        ))
    };
    server.expect("listVolumes", [found(2 << 30), found(1 << 30)]);
    let volumes = operations(&server);
    let Submission::Submitted(handle) = volumes.create_or_adopt(&new).await.unwrap() else { panic!("not submitted") };
    assert_eq!((handle.entity_id.as_deref(), handle.job_id.as_str()), (Some(id), "a2c4"));
    let Submission::Existing(volume) = volumes.create_or_adopt(&new).await.unwrap() else { panic!("not adopted") };
    assert_eq!(volume.id, id);
    let other = volumes.create_or_adopt(&new).await.unwrap_err();
    assert_eq!(other.refusal_class(), Some(RefusalClass::AlreadyExists), "a smaller volume is not ours");
    let sent = &server.asked("createVolume")[0].params;
    assert_eq!((sent["size"].as_str(), sent["customid"].as_str()), ("2", id));
}

#[tokio::test]
async fn device_ids_that_no_volume_can_have_are_refused_before_anything_is_sent() {
    let server = Scripted::start().await;
    for wrong in [3, 34] {
        let error = operations(&server).attach("v", "vm", Some(wrong)).await.unwrap_err();
        assert_eq!(error.kind(), FailureKind::Invalid);
    }
    assert!(server.asked("attachVolume").is_empty());
}

#[tokio::test]
async fn an_unknown_id_is_absent_or_missing_as_asked() {
    let server = Scripted::start().await;
    server.always("listVolumes", refusal(431, Some(9999), NOT_FOUND));
    server.always("listVirtualMachines", ok(r#"{"listvirtualmachinesresponse":{}}"#));
    let client = server.client();
    assert!(client.find_volume("5b1d").await.unwrap().is_none());
    let missing = client.volume("5b1d").await.unwrap_err();
    assert_eq!(missing.kind(), FailureKind::NotFound);
    assert_eq!(client.virtual_machine("9156").await.unwrap_err().kind(), FailureKind::NotFound);
}

#[tokio::test]
async fn settings_of_a_vm_are_merged_before_they_are_written() {
    let server = Scripted::start().await;
    let vm = r#"{"id":"9156","name":"w","details":{"UEFI":"SECURE","rootDiskController":"virtio"}}"#;
    server.expect(
        "listVirtualMachines",
        [ok(format!(r#"{{"listvirtualmachinesresponse":{{"count":1,"virtualmachine":[{vm}]}}}}"#))],
    );
    server.expect(
        "updateVirtualMachine",
        [ok(format!(r#"{{"updatevirtualmachineresponse":{{"virtualmachine":{vm}}}}}"#))],
    );
    let details = BTreeMap::from([
        ("rootDiskController".to_owned(), Some("sata".to_owned())),
        ("nicAdapter".to_owned(), Some("e1000".to_owned())),
    ]);
    let change = VmChange { details, ..VmChange::default() };
    server.client().update_virtual_machine("9156", &change).await.unwrap();
    let sent = &server.asked("updateVirtualMachine")[0].params;
    for (name, value) in
        [("details[0].UEFI", "SECURE"), ("details[0].rootDiskController", "sata"), ("details[0].nicAdapter", "e1000")]
    {
        assert_eq!(sent.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn tags_are_written_by_index_and_listed() {
    let server = Scripted::start().await;
    server.expect("createTags", [ok(r#"{"createtagsresponse":{"jobid":"t1"}}"#)]);
    server.expect("listTags", [ok(
        r#"{"listtagsresponse":{"count":1,"tag":[{"key":"owner","value":"us","resourcetype":"Volume","resourceid":"v"}]}}"#,
    )]);
    let client = server.client();
    let tags = BTreeMap::from([("owner".to_owned(), "us".to_owned())]);
    assert_eq!(client.create_tags(TaggedKind::Volume, "v", &tags).await.unwrap().job_id, "t1");
    let query = TagQuery { kind: Some(TaggedKind::Volume), key: Some("owner".into()), ..TagQuery::default() };
    let found = client.list_tags(&query).await.unwrap();
    assert_eq!(found[0].resource_id.as_deref(), Some("v"));
    let sent = &server.asked("createTags")[0].params;
    assert_eq!((sent["resourceids"].as_str(), sent["tags[0].key"].as_str()), ("v", "owner"));
}

#[tokio::test]
async fn wrong_keys_are_said_at_once_and_never_shown() {
    let server = Scripted::start().await;
    let wrong =
        cloudstack::ConnectionSettings { secret_key: model::Secret::new("SECRET-wrong"), ..settings(&server.url) };
    let client = cloudstack::Client::with_options(&wrong, quick()).unwrap();
    let error = client.list_zones().await.unwrap_err();
    assert_eq!(error.kind(), FailureKind::Unauthenticated);
    assert_eq!(server.asked("listZones").len(), 1, "a refused signature is not tried again when the clocks agree");
    assert!(!format!("{client:?} {wrong:?}").contains("SECRET"));
}

#[tokio::test]
async fn a_clock_that_differs_is_learnt_from_the_refusal() {
    let server = Scripted::start().await;
    server.always("detachVolume", ok(r#"{"detachvolumeresponse":{"jobid":"d"}}"#));
    for hours in [3, -3] {
        server.set_clock_ahead(time::Duration::hours(hours));
        let volumes = operations(&server);
        volumes.detach("v").await.unwrap();
        volumes.detach("v").await.unwrap();
    }
    assert_eq!(server.asked("detachVolume").len(), 6, "one refusal for each clock, then signed by the server's");
}

#[tokio::test]
async fn errors_never_hold_the_key_or_the_signature() {
    // Nothing listens on this port any more.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let client = cloudstack::Client::with_options(&settings(&url), quick()).unwrap();
    let refused = client.list_zones().await.unwrap_err();
    assert!(matches!(refused, CloudstackError::Unreachable { .. }), "{refused}");
    let server = Scripted::start().await;
    let echo = format!("Unable to use key {API_KEY} for this");
    server.always("listZones", refusal(530, Some(9999), &echo));
    server.always("listNetworks", silence());
    let mut options = quick();
    options.call_timeout = std::time::Duration::from_millis(50);
    let hasty = cloudstack::Client::with_options(&settings(&server.url), options).unwrap();
    let echoed = hasty.list_zones().await.unwrap_err();
    let late = hasty.list_networks(&cloudstack::NetworkQuery::default()).await.unwrap_err();
    for error in [refused, echoed, late] {
        let shown = format!("{error} {error:?} {:?}", std::error::Error::source(&error).map(ToString::to_string));
        for hidden in [API_KEY, SECRET_KEY, "signature=", "apiKey="] {
            assert!(!shown.contains(hidden), "{hidden} in {shown}");
        }
    }
}

#[tokio::test]
async fn something_else_than_the_api_is_named() {
    let server = Scripted::start().await;
    let elsewhere = cloudstack::Client::with_options(&settings(&format!("{}/other", server.url)), quick()).unwrap();
    let error = elsewhere.list_zones().await.unwrap_err();
    assert!(matches!(error, CloudstackError::NotTheApi { status: 404, .. }), "{error}");
    server.always("listZones", status(302, "").with_header("location", "http://127.0.0.1:1/"));
    let redirected = server.client().list_zones().await.unwrap_err();
    assert!(matches!(redirected, CloudstackError::NotTheApi { status: 302, .. }), "{redirected}");
}

#[tokio::test]
async fn an_endless_body_is_cut_off() {
    let server = Scripted::start().await;
    server.always("listZones", ok(" ".repeat(17 * 1024 * 1024)));
    let error = server.client().list_zones().await.unwrap_err();
    assert!(matches!(error, CloudstackError::TooLarge { .. }), "{error}");
}
