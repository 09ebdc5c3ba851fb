//! Unix sockets with a name: bound privately, a dead process's name taken over, a living one's never.

use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

use tokio::net::{UnixListener, UnixStream};

use super::HttpError;

/// Mode of the socket: only its owner may connect.
const SOCKET_MODE: u32 = 0o600;

/// Listens on a Unix socket of mode 0600, whose folder is made when missing. A socket left behind by a dead process is replaced.
///
/// # Errors
/// [`HttpError::SocketInUse`] when somebody answers there; [`HttpError::NotASocket`]; [`HttpError::Listen`].
pub async fn bind_unix(path: &Path) -> Result<UnixListener, HttpError> {
    let failed = |source| HttpError::Listen { address: path.display().to_string(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    check_free(path).await?;
    // Bound under another name and moved when it is private: nobody else can connect in between.
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}", std::process::id()));
    let bound_at = path.with_file_name(name);
    let _ = std::fs::remove_file(&bound_at);
    let listener = UnixListener::bind(&bound_at).map_err(failed)?;
    let placed = std::fs::set_permissions(&bound_at, std::fs::Permissions::from_mode(SOCKET_MODE))
        .and_then(|()| std::fs::rename(&bound_at, path));
    if let Err(source) = placed {
        let _ = std::fs::remove_file(&bound_at);
        return Err(failed(source));
    }
    Ok(listener)
}

async fn check_free(path: &Path) -> Result<(), HttpError> {
    let failed = |source| HttpError::Listen { address: path.display().to_string(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(HttpError::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Ok(_) => Err(HttpError::SocketInUse { path: path.to_owned() }),
        Err(error) if matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound) => Ok(()),
        // Its queue is full, or it is another user's: somebody is there.
        Err(_) => Err(HttpError::SocketInUse { path: path.to_owned() }),
    }
}
