//! Where the control socket lies, and who may use it.

use std::fs::{self, DirBuilder, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A bound socket; it is removed when this is dropped, unless another one lies there by then.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    /// Device and inode: nobody else's as long as the socket is open.
    file: (u64, u64),
    _socket: UnixListener,
}

impl Place {
    /// Binds a socket for this user alone. One that a server has left behind is replaced; one that is answered, and
    /// whatever is no socket, symbolic links included, is not.
    ///
    /// # Errors
    /// Why not, in a sentence.
    pub(crate) fn bind(path: &Path) -> Result<(UnixListener, Self), String> {
        let shown = path.display();
        match fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(format!("the control socket cannot be made: {shown} is there and is no socket"));
            }
            Ok(_) if UnixStream::connect(path).is_ok() => {
                return Err(format!(
                    "another server has the control socket {shown}: give each one its own --control"
                ));
            }
            Ok(_) => {
                fs::remove_file(path)
                    .map_err(|error| format!("the old socket {shown} cannot be removed: {error}"))?;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(format!("the control socket {shown} cannot be made: {error}")),
        }
        let bound = UnixListener::bind(path).and_then(|listener| {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok((listener.try_clone()?, listener, fs::symlink_metadata(path)?))
        });
        let (listener, socket, made) =
            bound.map_err(|error| format!("the control socket {shown} cannot be made: {error}"))?;
        Ok((listener, Self { path: path.to_owned(), file: (made.dev(), made.ino()), _socket: socket }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|it| (it.dev(), it.ino()) == self.file);
        if ours {
            // It may have been removed meanwhile, which is what is wanted.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the other end is of this user, or of root.
pub(crate) fn may_ask(stream: &impl AsFd) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid == rustix::process::geteuid() || peer.uid.is_root())
}

/// The directory of the sockets of all servers of this user that were not told otherwise.
pub(crate) fn default_directory() -> PathBuf {
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|dir| dir.is_absolute() && dir.is_dir()) {
        Some(dir) => dir.join("shardcast"),
        None => PathBuf::from(format!("/tmp/shardcast-{}", rustix::process::geteuid().as_raw())),
    }
}

/// Makes that directory, for this user alone.
///
/// # Errors
/// It is there and is somebody else's, or open to others: in a sentence.
pub(crate) fn make_directory(dir: &Path) -> Result<(), String> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(format!("{} cannot be made: {error}", dir.display()));
        }
        _ => {}
    }
    // Not through a link: it would lead where whoever made it likes.
    let there = fs::symlink_metadata(dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if there.is_dir() && there.uid() == rustix::process::geteuid().as_raw() && there.mode() & 0o022 == 0 {
        Ok(())
    } else {
        Err(format!("{} is not a directory that only this user can write to", dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one test.
    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("shardcast-test-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        make_directory(&dir).unwrap();
        dir
    }

    #[test]
    fn a_socket_is_for_its_user_alone_and_gone_afterwards() {
        let path = dir("mode").join("a.sock");
        let (_listener, place) = Place::bind(&path).unwrap();
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o777, 0o600);
        let stream = UnixStream::connect(&path).unwrap();
        assert!(may_ask(&stream));
        drop(place);
        assert!(fs::symlink_metadata(&path).is_err());
    }

    #[test]
    fn a_socket_that_was_left_behind_is_replaced_and_one_that_answers_is_not() {
        let path = dir("stale").join("a.sock");
        drop(UnixListener::bind(&path).unwrap());
        let (_listener, place) = Place::bind(&path).unwrap();
        assert!(Place::bind(&path).unwrap_err().contains("another server has the control socket"));
        // Somebody takes it away, and another server comes.
        fs::remove_file(&path).unwrap();
        let (_listener, successor) = Place::bind(&path).unwrap();
        drop(place);
        assert!(path.exists(), "the first one's end does not take the second one's socket away");
        drop(successor);
    }

    #[test]
    fn what_is_no_socket_is_left_alone_and_links_are_not_followed() {
        let dir = dir("links");
        let (file, link) = (dir.join("file"), dir.join("link"));
        fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(dir.join("elsewhere.sock"), &link).unwrap();
        for path in [&file, &link] {
            assert!(Place::bind(path).unwrap_err().ends_with("is there and is no socket"));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(!dir.join("elsewhere.sock").exists());
        let other = dir.join("dir-link");
        std::os::unix::fs::symlink(&dir, &other).unwrap();
        assert!(make_directory(&other).is_err());
        fs::set_permissions(&dir, Permissions::from_mode(0o777)).unwrap();
        assert!(make_directory(&dir).is_err(), "others could replace the socket");
    }
}
