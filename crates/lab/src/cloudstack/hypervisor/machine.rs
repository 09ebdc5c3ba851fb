//! A VM as QEMU is to run it, and the command line that says so.
//!
//! Pure: no file is touched and no process started here.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::HypervisorError;
use super::buses::{Bus, Firmware};

/// Disks on the two channels of an IDE controller.
const IDE_DISKS: usize = 4;
/// Disks on an AHCI controller.
const SATA_DISKS: usize = 6;

/// One disk, in the order of device ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drive {
    pub(crate) file: PathBuf,
    pub(crate) serial: String,
    pub(crate) bus: Bus,
    pub(crate) is_root: bool,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Card {
    pub(crate) mac: String,
    pub(crate) model: &'static str,
}

/// A VM about to be powered on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachinePlan {
    pub(crate) vm_id: String,
    pub(crate) name: String,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u32,
    pub(crate) firmware: Firmware,
    pub(crate) drives: Vec<Drive>,
    pub(crate) cards: Vec<Card>,
}

/// Where the machine's other files are.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) console: PathBuf,
    pub(crate) socket: PathBuf,
    /// Code and variables of UEFI.
    pub(crate) firmware: Option<(PathBuf, PathBuf)>,
}

/// The arguments of `qemu-system-x86_64`.
///
/// # Errors
/// More disks than the bus holds, or a bus the machine type lacks.
pub(crate) fn arguments(plan: &MachinePlan, places: &Places) -> Result<Vec<OsString>, HypervisorError> {
    let mut words = Words::default();
    let machine = match plan.firmware {
        Firmware::Bios => "pc,accel=tcg",
        Firmware::Uefi => "q35,accel=tcg",
        Firmware::UefiSecure => "q35,accel=tcg,smm=on",
    };
    words.pair("-name", plan.name.as_str());
    words.flag("-nodefaults");
    words.flag("-no-user-config");
    words.pair("-machine", machine);
    words.pair("-cpu", "qemu64");
    words.pair("-smp", plan.cpus.to_string());
    words.pair("-m", plan.memory_mib.to_string());
    words.pair("-boot", "strict=on");
    words.pair("-display", "none");
    words.pair("-vga", "std");
    words.pair("-chardev", option("file,id=console,append=on,path=", &places.console));
    words.pair("-serial", "chardev:console");
    words.pair("-chardev", option("socket,id=control,server=on,wait=off,path=", &places.socket));
    words.pair("-mon", "chardev=control,mode=control");
    if plan.firmware == Firmware::UefiSecure {
        words.pair("-global", "driver=cfi.pflash01,property=secure,value=on");
    }
    if let Some((code, variables)) = &places.firmware {
        words.pair("-drive", option("if=pflash,unit=0,format=raw,readonly=on,file=", code));
        words.pair("-drive", option("if=pflash,unit=1,format=raw,file=", variables));
    }
    drives(plan, &mut words)?;
    for (number, card) in plan.cards.iter().enumerate() {
        // Restricted: the guest reaches neither this machine nor the network. No ROM: nothing boots from a network.
        words.pair("-netdev", format!("user,id=net{number},restrict=on"));
        words.pair("-device", format!("{},netdev=net{number},mac={},romfile=", card.model, card.mac));
    }
    Ok(words.0)
}

fn drives(plan: &MachinePlan, words: &mut Words) -> Result<(), HypervisorError> {
    let is_q35 = plan.firmware != Firmware::Bios;
    let uses = |bus: Bus| plan.drives.iter().any(|drive| drive.bus == bus);
    if uses(Bus::Scsi) {
        words.pair("-device", "virtio-scsi-pci,id=scsi");
    }
    if uses(Bus::Sata) && !is_q35 {
        words.pair("-device", "ahci,id=sata");
    }
    if uses(Bus::Ide) && is_q35 {
        return Err(HypervisorError::Impossible("IDE controllers are unsupported for this machine type".to_owned()));
    }
    let (mut on_ide, mut on_sata, mut on_scsi) = (0, 0, 0);
    for (number, drive) in plan.drives.iter().enumerate() {
        let file =
            option(&format!("if=none,id=disk{number},format=raw,cache=writeback,discard=unmap,file="), &drive.file);
        words.pair("-drive", file);
        let device = match drive.bus {
            Bus::Virtio => "virtio-blk-pci".to_owned(),
            Bus::Scsi => format!("scsi-hd,bus=scsi.0,scsi-id={}", next(&mut on_scsi)),
            Bus::Sata => {
                let place = place(next(&mut on_sata), SATA_DISKS, "SATA")?;
                format!("ide-hd,bus={}.{place}", if is_q35 { "ide" } else { "sata" })
            }
            Bus::Ide => {
                let place = place(next(&mut on_ide), IDE_DISKS, "IDE")?;
                format!("ide-hd,bus=ide.{},unit={}", place / 2, place % 2)
            }
        };
        let boot = if drive.is_root { ",bootindex=1" } else { "" };
        words.pair("-device", format!("{device},drive=disk{number},serial={}{boot}", drive.serial));
    }
    Ok(())
}

fn next(counter: &mut usize) -> usize {
    *counter += 1;
    *counter - 1
}

fn place(place: usize, limit: usize, bus: &str) -> Result<usize, HypervisorError> {
    let full = || HypervisorError::Impossible(format!("the {bus} controller holds {limit} disks and no more"));
    (place < limit).then_some(place).ok_or_else(full)
}

/// An option that ends in a file name; QEMU wants its commas doubled.
fn option(start: &str, file: &Path) -> String {
    format!("{start}{}", file.display().to_string().replace(',', ",,"))
}

#[derive(Default)]
struct Words(Vec<OsString>);

impl Words {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn pair(&mut self, name: &str, value: impl Into<OsString>) {
        self.0.push(name.into());
        self.0.push(value.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drive(name: &str, bus: Bus, is_root: bool) -> Drive {
        Drive { file: PathBuf::from(format!("/pool/{name}")), serial: format!("serial-{name}"), bus, is_root }
    }

    fn line(firmware: Firmware, drives: Vec<Drive>) -> Result<String, HypervisorError> {
        let card = |mac: &str, model| Card { mac: mac.to_owned(), model };
        let plan = MachinePlan {
            vm_id: "7".to_owned(),
            name: "web".to_owned(),
            cpus: 2,
            memory_mib: 512,
            firmware,
            drives,
            cards: vec![card("02:00:00:00:00:01", "virtio-net-pci"), card("02:00:00:00:00:02", "e1000")],
        };
        let places = Places {
            console: PathBuf::from("/state/consoles/7.log"),
            socket: PathBuf::from("/state/qmp/7"),
            firmware: (firmware != Firmware::Bios).then(|| (PathBuf::from("/f/code"), PathBuf::from("/f/vars"))),
        };
        let words = arguments(&plan, &places)?;
        Ok(words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn disks_and_interfaces_come_in_order_with_their_serials() {
        let drives =
            vec![drive("root", Bus::Virtio, true), drive("a,b", Bus::Scsi, false), drive("c", Bus::Scsi, false)];
        let line = line(Firmware::Bios, drives).unwrap();
        let places: Vec<usize> = [
            "-device virtio-blk-pci,drive=disk0,serial=serial-root,bootindex=1",
            "cache=writeback,discard=unmap,file=/pool/a,,b",
            "-device scsi-hd,bus=scsi.0,scsi-id=0,drive=disk1,serial=serial-a,b",
            "-device scsi-hd,bus=scsi.0,scsi-id=1,drive=disk2,serial=serial-c",
            "-device virtio-net-pci,netdev=net0,mac=02:00:00:00:00:01,romfile=",
            "-device e1000,netdev=net1,mac=02:00:00:00:00:02,romfile=",
        ]
        .iter()
        .map(|part| line.find(part).unwrap_or_else(|| panic!("{part} is not in {line}")))
        .collect();
        assert!(places.is_sorted(), "{line}");
        assert_eq!(line.matches("restrict=on").count(), 2);
        assert!(line.contains("-machine pc,accel=tcg ") && !line.contains("pflash"));
    }

    #[test]
    fn old_buses_have_their_places_and_limits() {
        let many = |bus, count| (0..count).map(|number| drive(&number.to_string(), bus, number == 0)).collect();
        let ide = line(Firmware::Bios, many(Bus::Ide, 4)).unwrap();
        assert!(ide.contains("ide-hd,bus=ide.1,unit=1,drive=disk3"), "{ide}");
        assert!(line(Firmware::Bios, many(Bus::Ide, 5)).unwrap_err().to_string().contains("4 disks"));
        assert!(line(Firmware::Uefi, many(Bus::Ide, 1)).unwrap_err().to_string().contains("unsupported"));
        let sata = line(Firmware::Bios, many(Bus::Sata, 2)).unwrap();
        assert!(sata.contains("-device ahci,id=sata") && sata.contains("bus=sata.1,drive=disk1"), "{sata}");
        let uefi = line(Firmware::UefiSecure, many(Bus::Sata, 2)).unwrap();
        assert!(uefi.contains("q35,accel=tcg,smm=on") && uefi.contains("bus=ide.1,drive=disk1"), "{uefi}");
        assert!(uefi.contains("unit=1,format=raw,file=/f/vars"), "{uefi}");
    }
}
