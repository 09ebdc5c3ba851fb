//! What a volume says of itself, and which one is taken for ours.

use super::*;

#[test]
fn device_ids_leave_the_cd_rom_alone() {
    let usable: Vec<u32> = (0..40).filter(|&id| is_attachable_device_id(id)).collect();
    assert_eq!(usable.len(), 33);
    assert!(!usable.contains(&3) && usable.contains(&0) && usable.contains(&33));
}

#[test]
fn a_root_volume_of_a_compute_offering() {
    let text = r#"{"id":"5b1d","name":"ROOT-7","type":"ROOT","deviceid":0,"size":8589934592,"state":"Ready",
        "serviceofferingid":"1","virtualmachineid":"9156","tags":[],"created":"2026-01-02T03:04:05+0000"}"#;
    let volume: Volume = serde_json::from_str(text).unwrap();
    assert_eq!((volume.kind.clone(), volume.device_id), (VolumeKind::Root, Some(0)));
    assert!(volume.is_attached() && volume.disk_offering_id.is_none());
    let written = serde_json::to_value(&volume).unwrap();
    assert_eq!((&written["kind"], &written["created"]), (&"ROOT".into(), &"2026-01-02T03:04:05Z".into()));
    assert_eq!(serde_json::from_value::<Volume>(written).unwrap(), volume);
}

#[test]
fn unknown_states_are_kept() {
    let volume: Volume = serde_json::from_str(r#"{"id":7,"state":"Teleporting","tags":null}"#).unwrap();
    assert_eq!(volume.state, VolumeState::Other("Teleporting".into()));
    assert_eq!((volume.id.as_str(), volume.kind), ("7", VolumeKind::Unknown));
}

#[test]
fn only_a_volume_of_the_same_order_is_adopted() {
    let new = NewVolume {
        name: "n".into(),
        zone_id: "z".into(),
        disk_offering_id: "d".into(),
        size_gib: 2,
        custom_id: None,
        owner: None,
    };
    for (text, expected) in [
        (r#"{"id":"v","zoneid":"z","size":2147483648,"state":"Allocated"}"#, true),
        (r#"{"id":"v","zoneid":"z","size":1073741824,"state":"Allocated"}"#, false),
        (r#"{"id":"v","zoneid":"y","size":2147483648,"state":"Ready"}"#, false),
        (r#"{"id":"v","zoneid":"z","size":2147483648,"state":"Expunged"}"#, false),
    ] {
        assert_eq!(is_of_this_order(&serde_json::from_str(text).unwrap(), &new), expected, "{text}");
    }
}
