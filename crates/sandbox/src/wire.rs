//! The socket between the parent and the sandbox: one JSON text a message, file descriptors beside it.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    },
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Container, Exit, Failure, RootFs};

/// What the sandbox is asked to do. It travels in a memory file, not in an argument: the environment
/// may hold secrets, and every user of the machine can read arguments.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    /// How the namespaces are entered.
    pub(crate) entry: Entry,
    /// Where the sandbox makes its own folder.
    pub(crate) scratch: PathBuf,
    /// What it does there.
    pub(crate) task: Task,
    /// What is done with the files that it wrote.
    pub(crate) changes: Changes,
}

/// How the namespaces are entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Entry {
    /// As root, who needs no user namespace.
    Root,
    /// By a user namespace whose identifiers the parent maps, or leaves to the sandbox.
    User {
        /// Whether the parent wants to be asked.
        maps: Maps,
    },
}

/// Who writes the identifier maps of a user namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Maps {
    /// The sandbox itself: one identifier, the caller's.
    Own,
    /// The parent, with the setuid programs `newuidmap` and `newgidmap`: ranges.
    Parent,
}

/// What is done in the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// Run a process.
    Run {
        /// The layers' folders, lowest first.
        layers: Vec<PathBuf>,
        /// The process and what it sees.
        container: Box<Container>,
    },
    /// Find out what can be done.
    Probe,
}

/// What is done with the files that a container wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Changes {
    /// They are thrown away.
    Dropped,
    /// They are written to the descriptor that comes second, as a layer, before they are thrown away.
    Kept,
}

/// A message of the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToParent {
    /// The user namespace waits for its maps.
    Unshared,
    /// The command is being executed.
    Started {
        /// How the root file system was made.
        rootfs: RootFs,
    },
    /// A step failed; nothing follows.
    Failed(Failure),
    /// The command ended; nothing follows.
    Exited(Exit),
    /// What can be done, the answer to [`Task::Probe`]; nothing follows.
    Probed {
        /// Whether overlay can be mounted, and if not, why.
        overlay: Result<(), Failure>,
        /// Whether a `/proc` of the sandbox's own can be mounted, and if not, why.
        proc: Result<(), Failure>,
    },
}

/// A message to the sandbox.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToSandbox {
    /// The maps are written.
    Mapped,
    /// The maps could not be written: make your own.
    MapYourself,
    /// Send this signal to the command.
    Signal(i32),
}

/// One end of the socket.
#[derive(Debug)]
pub(crate) struct Wire(OwnedFd);

/// No message is larger: the longest texts are a path and an error.
const LIMIT: usize = 64 << 10;

impl Wire {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        Ok((Self(ours), theirs))
    }

    /// The end that was inherited.
    pub(crate) const fn from_fd(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Sends a message.
    pub(crate) fn send(&self, message: &impl Serialize) -> io::Result<()> {
        self.send_with(message, &[])
    }

    /// Sends a message with file descriptors.
    pub(crate) fn send_with(&self, message: &impl Serialize, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(message)?;
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Errno::NOBUFS.into());
        }
        rustix::io::retry_on_intr(|| {
            rustix::net::sendmsg(&self.0, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
        })?;
        Ok(())
    }

    /// Waits for a message; `None` if the other end is gone.
    pub(crate) fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        Ok(self.receive_with()?.map(|(message, _)| message))
    }

    /// Waits for a message with file descriptors.
    pub(crate) fn receive_with<T: DeserializeOwned>(&self) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
        let mut bytes = vec![0; LIMIT];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let received = rustix::io::retry_on_intr(|| {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            rustix::net::recvmsg(&self.0, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC)
        });
        let length = match received {
            Ok(received) => received.bytes,
            Err(Errno::CONNRESET) => 0,
            Err(error) => return Err(error.into()),
        };
        let fds = ancillary
            .drain()
            .filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(fds) => Some(fds),
                _ => None,
            })
            .flatten()
            .collect();
        if length == 0 {
            return Ok(None);
        }
        Ok(Some((serde_json::from_slice(&bytes[..length])?, fds)))
    }

    /// Ends the conversation for every holder of this end.
    pub(crate) fn shut_down(&self) {
        let _ = rustix::net::shutdown(&self.0, rustix::net::Shutdown::Both);
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Seek as _, Write as _};

    #[test]
    fn messages_and_descriptors_arrive_and_the_end_is_seen() {
        let (ours, theirs) = Wire::pair().unwrap();
        let theirs = Wire::from_fd(theirs);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"content").unwrap();
        file.rewind().unwrap();
        ours.send_with(&"first", &[file.as_fd()]).unwrap();
        ours.send(&ToSandbox::Signal(15)).unwrap();
        drop(ours);
        let (text, mut fds): (String, _) = theirs.receive_with().unwrap().unwrap();
        let mut content = String::new();
        std::fs::File::from(fds.remove(0)).read_to_string(&mut content).unwrap();
        assert_eq!((text.as_str(), content.as_str()), ("first", "content"));
        assert!(matches!(theirs.receive().unwrap(), Some(ToSandbox::Signal(15))));
        assert!(theirs.receive::<String>().unwrap().is_none());
    }
}
