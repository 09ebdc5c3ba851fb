//! Opens the reader the hub chose for a disk. What names a program or a file comes from the agent's own configuration.

use std::path::{Path, PathBuf};

use api::vma::{ReaderSpec, RunDisk};
use mover::reader::{NbdReader, ServedDisk, Source, fill};
use nbd::uri::{Address, NbdUri};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use runtime::private_file;
use vsphere::{Thumbprint, VirtualDisk};

use super::cycle::FrozenVm;
use super::folder;
use super::run::Run;
use crate::error::VmaError;

/// Opens a frozen disk for reading.
pub(super) async fn open_source(
    run: &Run,
    frozen: &FrozenVm<'_>,
    disk: &VirtualDisk,
    wanted: &RunDisk,
) -> Result<Source, VmaError> {
    let failed = |source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source };
    match &wanted.reader {
        ReaderSpec::Hotadd => {
            let hotadd = &run.surroundings().hotadd;
            Ok(hotadd.add(frozen.session, run.job_id(), frozen.vm, disk).await?)
        }
        ReaderSpec::Folder => folder::open(run, frozen, disk, wanted).await,
        ReaderSpec::Nbd { uri } => {
            let values = places(frozen, disk, wanted).map(|(name, value)| (name, encoded(value)));
            let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let uri = fill(uri, &values).parse().map_err(|error: nbd::NbdError| VmaError::Invalid {
                what: "the reader's NBD URI",
                reason: error.to_string(),
            })?;
            let uri = allowed_server(uri, &run.surroundings().config.file_roots)?;
            Ok(Source::remote(NbdReader::connect(&uri).await.map_err(failed)?))
        }
        ReaderSpec::NbdCommand { name } => {
            let served = serve(run, frozen, disk, wanted, name).await?;
            Ok(Source::remote(NbdReader::served(served).await.map_err(failed)?))
        }
        ReaderSpec::File { path } => {
            let path = fill(path, &places(frozen, disk, wanted));
            let path = allowed(Path::new(&path), &run.surroundings().config.file_roots)?;
            Source::file(&path).map_err(failed)
        }
    }
}

fn places<'a>(frozen: &'a FrozenVm<'_>, disk: &'a VirtualDisk, wanted: &'a RunDisk) -> [(&'static str, &'a str); 4] {
    [
        ("vmdk_path", disk.vmdk_path.as_str()),
        ("moref", frozen.vm.moref.id()),
        ("vm_snapshot", frozen.vm_snapshot.id()),
        ("disk_id", wanted.disk_id.as_str()),
    ]
}

/// A value as a part of a URI: it can neither end the path nor add a parameter.
fn encoded(value: &str) -> String {
    utf8_percent_encode(value, NON_ALPHANUMERIC).to_string()
}

/// Starts the configured command; the password goes into a file that only this user can read.
async fn serve(
    run: &Run,
    frozen: &FrozenVm<'_>,
    disk: &VirtualDisk,
    wanted: &RunDisk,
    name: &str,
) -> Result<ServedDisk, VmaError> {
    let command = run.surroundings().config.nbd_commands.get(name).ok_or_else(|| VmaError::Invalid {
        what: "the reader's NBD command",
        reason: format!("{name:?} is not in this agent's configuration"),
    })?;
    let connection = &run.request().vcenter;
    let password_file = run.folder().join(format!("{}.password", wanted.disk_id));
    private_file::write(&password_file, connection.password.expose().as_bytes())
        .map_err(|source| VmaError::StateFile { path: password_file.clone(), source })?;
    let socket = run.folder().join(format!("{}.sock", wanted.disk_id));
    let thumbprint = connection.thumbprint.as_deref().and_then(sha1_with_colons);
    if thumbprint.is_none() && command.arguments.iter().any(|argument| argument.contains("{thumbprint}")) {
        return Err(VmaError::Invalid {
            what: "the vCenter's thumbprint",
            reason: format!("must be its SHA-1 for the command {name:?}: add the vCenter with it"),
        });
    }
    let (socket_text, password_text) = (socket.to_string_lossy(), password_file.to_string_lossy());
    let mut values = vec![
        ("socket", &*socket_text),
        ("password_file", &*password_text),
        ("server", frozen.session.host()),
        ("username", connection.username.as_str()),
        ("thumbprint", thumbprint.as_deref().unwrap_or_default()),
    ];
    values.extend(places(frozen, disk, wanted));
    let arguments: Vec<String> = command.arguments.iter().map(|argument| fill(argument, &values)).collect();
    let served = ServedDisk::start(&command.program, &arguments, &socket).await;
    served.map_err(|source| VmaError::Copy { disk_id: wanted.disk_id.clone(), source })
}

/// A SHA-1 thumbprint as VMware's library wants it; nothing when it is another one.
fn sha1_with_colons(thumbprint: &str) -> Option<String> {
    /// Twenty bytes in hexadecimal, with colons between them.
    const SHA1_CHARS: usize = 59;
    let text = thumbprint.parse::<Thumbprint>().ok()?.to_string();
    (text.len() == SHA1_CHARS).then_some(text)
}

/// A server on a Unix socket only if its path is allowed like a file's. Any TCP server: the hub names vCenters, too.
fn allowed_server(uri: NbdUri, roots: &[PathBuf]) -> Result<NbdUri, VmaError> {
    match &uri.address {
        Address::Tcp { .. } => Ok(uri),
        Address::Unix { path } => Ok(NbdUri::unix(&allowed(path, roots)?, &uri.export)),
    }
}

/// The path with every link resolved, if it lies under one of the allowed folders.
fn allowed(path: &Path, roots: &[PathBuf]) -> Result<PathBuf, VmaError> {
    let refused = |reason: String| VmaError::Invalid { what: "the reader's file", reason };
    let real = path.canonicalize().map_err(|error| refused(format!("{} cannot be used: {error}", path.display())))?;
    let under = |root: &PathBuf| root.canonicalize().is_ok_and(|root| real.starts_with(root));
    if roots.iter().any(under) {
        return Ok(real);
    }
    Err(refused(format!("{} lies under none of the agent's file_roots", real.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_under_the_configured_folders_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("images"), folder.path().join("secret"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(inside.join("disk.raw"), b"x").unwrap();
        std::fs::write(&outside, b"x").unwrap();
        std::os::unix::fs::symlink(&outside, inside.join("link")).unwrap();
        let roots = [inside.clone()];
        assert!(allowed(&inside.join("disk.raw"), &roots).is_ok());
        for path in [outside.clone(), inside.join("../secret"), inside.join("link"), inside.join("gone")] {
            assert!(allowed(&path, &roots).is_err(), "{}", path.display());
        }
        assert!(allowed(&inside.join("disk.raw"), &[]).is_err());
    }

    #[test]
    fn only_a_sha1_thumbprint_is_handed_on_with_colons() {
        let sha1 = "ab".repeat(20);
        assert_eq!(sha1_with_colons(&sha1), Some(["AB"; 20].join(":")));
        assert_eq!(sha1_with_colons(&["ab"; 20].join(":")), Some(["AB"; 20].join(":")));
        assert_eq!((sha1_with_colons(&"ab".repeat(32)), sha1_with_colons("none")), (None, None));
    }

    #[test]
    fn only_sockets_under_the_configured_folders_are_connected_to() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        let socket = root.join("nbd.sock");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let (local, remote) = (NbdUri::unix(&socket, "disk"), NbdUri::tcp("esx.example", 10809, "disk"));
        assert_eq!(allowed_server(local.clone(), &[root]).unwrap(), local);
        assert!(allowed_server(local, &[]).is_err());
        assert_eq!(allowed_server(remote.clone(), &[]).unwrap(), remote);
    }
}
