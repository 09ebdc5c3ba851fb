//! Commands that serve a frozen disk as NBD: written out, or a preset that is expanded here. Nothing is started here.

use std::path::PathBuf;

use serde::Deserialize;

/// A command that serves one frozen disk as NBD on the Unix socket `{socket}`.
///
/// Its arguments may hold `{socket}`, `{server}`, `{username}`, `{password_file}`, `{thumbprint}`, `{moref}`,
/// `{vm_snapshot}` and `{vmdk_path}`. The password is only ever given as a file; `{thumbprint}` is the vCenter's SHA-1 with
/// colons.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct NbdCommand {
    /// The program.
    pub program: String,
    /// Its arguments.
    pub arguments: Vec<String>,
}

/// The command as it stands in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    preset: Option<Preset>,
    program: Option<String>,
    arguments: Option<Vec<String>>,
    libdir: Option<PathBuf>,
    transports: Option<String>,
    compression: Option<String>,
}

/// Commands this agent knows how to write.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Preset {
    /// nbdkit with its VDDK plugin; VMware's library is the operator's.
    Vddk,
}

impl TryFrom<Written> for NbdCommand {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written { preset: Some(Preset::Vddk), arguments: None, .. } => vddk(&written),
            Written { preset: Some(Preset::Vddk), .. } => Err("a preset has its own `arguments`".to_owned()),
            Written {
                preset: None,
                program: Some(program),
                arguments,
                libdir: None,
                transports: None,
                compression: None,
            } => Ok(Self { program, arguments: arguments.unwrap_or_default() }),
            Written { preset: None, program: None, .. } => Err("a command needs a `program` or a `preset`".to_owned()),
            Written { .. } => Err("`libdir`, `transports` and `compression` belong to `preset = \"vddk\"`".to_owned()),
        }
    }
}

/// nbdkit-vddk-plugin(1). The library is loaded from `libdir` by nbdkit itself: no `LD_LIBRARY_PATH`. A lost connection
/// to the host is opened again by the retry filter.
fn vddk(written: &Written) -> Result<NbdCommand, String> {
    let libdir = written.libdir.as_ref().ok_or("`preset = \"vddk\"` needs `libdir`, the folder of VMware's library")?;
    let libdir = libdir.to_str().filter(|libdir| libdir.starts_with('/') && !libdir.contains('{'));
    let libdir = libdir.ok_or("`libdir` must be an absolute path")?;
    let names = |text: &str, separator: char| {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        text.split(separator).all(is_name)
    };
    let fixed = ["--readonly", "--foreground", "--exit-with-parent", "--unix", "{socket}", "--filter=retry", "vddk"];
    let mut arguments: Vec<String> = fixed.map(str::to_owned).to_vec();
    arguments.push(format!("libdir={libdir}"));
    let of_disk = [
        "server={server}",
        "user={username}",
        "password=+{password_file}",
        "thumbprint={thumbprint}",
        "vm=moref={moref}",
        "snapshot={vm_snapshot}",
    ];
    arguments.extend(of_disk.map(str::to_owned));
    if let Some(transports) = &written.transports {
        if !names(transports, ':') {
            return Err("`transports` are names with colons between them, such as nbdssl:hotadd".to_owned());
        }
        arguments.push(format!("transports={transports}"));
    }
    if let Some(compression) = &written.compression {
        if !["none", "zlib", "fastlz", "skipz"].contains(&compression.as_str()) {
            return Err("`compression` is none, zlib, fastlz or skipz".to_owned());
        }
        arguments.push(format!("compression={compression}"));
    }
    arguments.push("file={vmdk_path}".to_owned());
    Ok(NbdCommand { program: written.program.clone().unwrap_or_else(|| "nbdkit".to_owned()), arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<NbdCommand, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_preset_is_these_arguments() {
        let short = read("preset = \"vddk\"\nlibdir = \"/opt/vmware-vix-disklib-distrib\"").unwrap();
        let expected = [
            "--readonly",
            "--foreground",
            "--exit-with-parent",
            "--unix",
            "{socket}",
            "--filter=retry",
            "vddk",
            "libdir=/opt/vmware-vix-disklib-distrib",
            "server={server}",
            "user={username}",
            "password=+{password_file}",
            "thumbprint={thumbprint}",
            "vm=moref={moref}",
            "snapshot={vm_snapshot}",
            "file={vmdk_path}",
        ];
        assert_eq!((short.program.as_str(), short.arguments), ("nbdkit", expected.map(str::to_owned).to_vec()));
        let long = "preset = \"vddk\"\nlibdir = \"/opt/vddk\"\nprogram = \"/opt/nbdkit\"\n\
                    transports = \"nbdssl:hotadd\"\ncompression = \"skipz\"";
        let long = read(long).unwrap();
        assert_eq!(long.program, "/opt/nbdkit");
        let tail = ["snapshot={vm_snapshot}", "transports=nbdssl:hotadd", "compression=skipz", "file={vmdk_path}"];
        assert_eq!(long.arguments[long.arguments.len() - 4..], tail);
    }

    #[test]
    fn what_contradicts_itself_is_refused_with_words() {
        for (text, part) in [
            ("preset = \"vddk\"", "libdir"),
            ("preset = \"vddk\"\nlibdir = \"opt\"", "absolute"),
            ("preset = \"vddk\"\nlibdir = \"/opt\"\narguments = []", "arguments"),
            ("preset = \"vddk\"\nlibdir = \"/opt\"\ntransports = \"nbd ssl\"", "transports"),
            ("preset = \"vddk\"\nlibdir = \"/opt\"\ncompression = \"best\"", "compression"),
            ("preset = \"nfc\"", "vddk"),
            ("program = \"sh\"\nlibdir = \"/opt\"", "preset"),
            ("arguments = []", "program"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let plain = read("program = \"sh\"").unwrap();
        assert_eq!(plain, NbdCommand { program: "sh".to_owned(), arguments: Vec::new() });
    }
}
