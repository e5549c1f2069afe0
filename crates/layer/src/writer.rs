//! Writing a layer.

use std::io::{BufWriter, Read, Seek, Write};

use longshore_oci::{Digest, Digester};

use crate::{
    Entry, EntryPath, Error, Kind, Level, Result, WriteFault,
    content::{Compressor, Outcome, Side},
    deflate::Encoder,
    gzip,
    inflate::{Inflater, Sink},
    tar,
    zip::{Archive, Method, ZipFault},
};

/// Headers are written as a member of their own before every content, and as soon as so many have come together.
const LARGEST_HEADER_MEMBER: usize = 32 * 1024;
/// Members are small; what receives them may make a system call of every write.
const OUTPUT_BUFFER: usize = 256 * 1024;
/// What a name of a removed entry begins with (OCI image specification, "Whiteouts").
pub(crate) const WHITEOUT: &str = ".wh.";
/// The name that hides everything that lower layers have in its directory ("Opaque Whiteout").
pub(crate) const OPAQUE: &str = ".wh..wh..opq";

/// Writes a layer: a gzip file of many members, laid out as the [crate] says.
///
/// Entries come in strictly ascending order of their paths ([`EntryPath`]'s order). Directories on the way to an entry
/// that were not added are written by the writer, with mode 0755, of root's, with the entry's time.
/// After an error the writer refuses to go on, so that no half-written layer is ever finished.
pub struct LayerWriter<W: Write> {
    out: BufWriter<W>,
    level: Level,
    /// tar bytes that wait for their member: padding of the last content, then headers.
    pending: Vec<u8>,
    member: Vec<u8>,
    encoder: Encoder,
    compressor: Option<Compressor>,
    inflater: Option<Inflater>,
    digester: Digester,
    entries: u64,
    last: Option<(EntryPath, Last)>,
    state: State,
}

/// What the last entry was, for whatever comes below its path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Directory,
    Other,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    Broken,
}

/// What a finished layer is. Digest and size of its compressed bytes are known to whoever received them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// The digest of the uncompressed tar archive.
    pub diff_id: Digest,
    /// The size of the uncompressed tar archive.
    pub uncompressed_size: u64,
    /// How many entries it has, with the directories that the writer added.
    pub entries: u64,
}

impl<W: Write> LayerWriter<W> {
    /// Begins a layer that is written to `out`, compressing at [`Level::Normal`] what does not come compressed.
    pub fn new(out: W) -> Self {
        Self::with_level(out, Level::default())
    }

    /// Begins a layer with another level.
    pub fn with_level(out: W, level: Level) -> Self {
        Self {
            out: BufWriter::with_capacity(OUTPUT_BUFFER, out),
            level,
            pending: Vec::with_capacity(2 * LARGEST_HEADER_MEMBER),
            member: Vec::new(),
            encoder: Encoder::new(),
            compressor: None,
            inflater: None,
            digester: Digester::new(),
            entries: 0,
            last: None,
            state: State::Good,
        }
    }

    /// Adds a directory or a link.
    pub fn add(&mut self, entry: &Entry) -> Result<()> {
        self.guarded(|this| match entry.kind {
            Kind::File => Err(Error::Write {
                path: entry.path.clone(),
                fault: WriteFault::Content { is: "a file", needs: "files are added with their content" },
            }),
            _ => this.header(entry, 0),
        })
    }

    /// Adds a file with the given content.
    pub fn file(&mut self, entry: &Entry, content: &[u8]) -> Result<()> {
        self.file_from(entry, content.len() as u64, content)
    }

    /// Adds a file whose content is read from `content`, which must have exactly `size` bytes.
    pub fn file_from(&mut self, entry: &Entry, size: u64, content: impl Read) -> Result<()> {
        self.guarded(|this| this.compressed(entry, size, content).map(drop))
    }

    /// Adds a file with the content of the zip archive's entry at `index`, reusing its DEFLATE stream as it is. The stream
    /// is inflated once, to check it against the zip's CRC-32 and sizes and to hash it. The content of a stored entry
    /// is compressed like that of [`file`](Self::file).
    pub fn splice<R: Read + Seek>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        index: usize,
    ) -> Result<()> {
        self.guarded(|this| this.spliced(entry, archive, index))
    }

    /// Removes `path`, with all below it, from what the layers below have: adds a whiteout. It sorts as its own name,
    /// `.wh.` and the name removed.
    pub fn whiteout(&mut self, path: &EntryPath) -> Result<()> {
        self.marker(path.parent().as_ref(), &format!("{WHITEOUT}{}", path.name()))
    }

    /// Hides everything that the layers below have in `directory` (`None` is the root): adds an opaque whiteout. It sorts
    /// as its own name, `.wh..wh..opq` in the directory.
    pub fn opaque(&mut self, directory: Option<&EntryPath>) -> Result<()> {
        self.marker(directory, OPAQUE)
    }

    /// Ends the archive and gives back where it was written to.
    pub fn finish(mut self) -> Result<(W, LayerSummary)> {
        self.guarded(|this| {
            this.pending.extend_from_slice(&tar::END);
            this.flush()
        })?;
        let summary = LayerSummary {
            uncompressed_size: self.digester.length(),
            diff_id: self.digester.finish(),
            entries: self.entries,
        };
        let out = self.out.into_inner().map_err(|error| Error::writing(error.into_error()))?;
        Ok((out, summary))
    }

    /// Runs `work` unless something failed before, and remembers if it fails.
    fn guarded<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.state == State::Broken {
            return Err(Error::Broken);
        }
        self.state = State::Broken;
        let done = work(self)?;
        self.state = State::Good;
        Ok(done)
    }

    fn marker(&mut self, directory: Option<&EntryPath>, name: &str) -> Result<()> {
        self.guarded(|this| {
            let path = directory.map_or_else(|| EntryPath::new(name), |directory| directory.join(name))?;
            this.ordered(&Entry::file(path, 0o600), 0)
        })
    }

    /// Checks an ordinary entry's name, then writes what [`ordered`](Self::ordered) writes.
    fn header(&mut self, entry: &Entry, size: u64) -> Result<()> {
        if entry.path.parts().any(|part| part.starts_with(WHITEOUT)) {
            return Err(Error::Write { path: entry.path.clone(), fault: WriteFault::WhiteoutName });
        }
        self.ordered(entry, size)
    }

    /// Writes the headers of the directories on the way to `entry`, then its own.
    fn ordered(&mut self, entry: &Entry, size: u64) -> Result<()> {
        let refuse = |fault| Err(Error::Write { path: entry.path.clone(), fault });
        match &self.last {
            Some((last, _)) if *last == entry.path => return refuse(WriteFault::Duplicate),
            Some((last, _)) if *last > entry.path => {
                return refuse(WriteFault::Order { after: last.clone() });
            }
            Some((last, Last::Other)) if entry.path.is_below(last) => {
                return refuse(WriteFault::Parent { parent: last.clone() });
            }
            _ => {}
        }
        for directory in entry.path.ancestors() {
            let last = self.last.as_ref().map(|(last, _)| last);
            if last.is_some_and(|last| *last == directory || last.is_below(&directory)) {
                continue;
            }
            self.append(&Entry::directory(directory).changed_at(entry.mtime), 0)?;
        }
        self.append(entry, size)
    }

    fn append(&mut self, entry: &Entry, size: u64) -> Result<()> {
        tar::append_header(&mut self.pending, entry, size)?;
        self.entries += 1;
        let last = if entry.kind == Kind::Directory { Last::Directory } else { Last::Other };
        self.last = Some((entry.path.clone(), last));
        if self.pending.len() >= LARGEST_HEADER_MEMBER { self.flush() } else { Ok(()) }
    }

    /// Writes what is pending as one member.
    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.digester.update(&self.pending);
        self.member.clear();
        self.member.extend_from_slice(&gzip::HEADER);
        self.encoder.encode(&self.pending, &mut self.member);
        let crc32 = crc32fast::hash(&self.pending);
        self.member.extend_from_slice(&gzip::trailer(crc32, self.pending.len() as u64));
        self.pending.clear();
        self.out.write_all(&self.member).map_err(Error::writing)
    }

    /// Adds a file with a DEFLATE stream of our own; gives the content's CRC-32.
    fn compressed(&mut self, entry: &Entry, size: u64, content: impl Read) -> Result<u32> {
        self.begin_file(entry, size)?;
        let level = self.level;
        let compressor = self.compressor.get_or_insert_with(|| Compressor::new(level));
        let refuse = |is| Error::Write { path: entry.path.clone(), fault: WriteFault::Size { is, size } };
        match compressor.write(size, content, &mut self.out, &mut self.digester) {
            Ok(Outcome::Whole { crc32 }) => self.end_file(size, crc32).map(|()| crc32),
            Ok(Outcome::Short) => Err(refuse("less than")),
            Ok(Outcome::Long) => Err(refuse("more than")),
            Err(Side::Input(error)) => Err(Error::reading(error)),
            Err(Side::Output(error)) => Err(Error::writing(error)),
        }
    }

    /// Writes a file's headers and, unless the file is empty, begins the member for its content.
    fn begin_file(&mut self, entry: &Entry, size: u64) -> Result<()> {
        let is = match entry.kind {
            Kind::File => None,
            Kind::Directory => Some("a directory"),
            Kind::Symlink { .. } | Kind::HardLink { .. } => Some("a link"),
            Kind::CharacterDevice { .. } | Kind::BlockDevice { .. } | Kind::Fifo => {
                Some("a device or a pipe")
            }
        };
        if let Some(is) = is {
            let fault = WriteFault::Content { is, needs: "only files have content" };
            return Err(Error::Write { path: entry.path.clone(), fault });
        }
        self.header(entry, size)?;
        if size == 0 {
            return Ok(());
        }
        self.flush()?;
        self.out.write_all(&gzip::HEADER).map_err(Error::writing)
    }

    /// Ends the content's member; the padding is left to the next member of headers.
    fn end_file(&mut self, size: u64, crc32: u32) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        self.pending.resize(tar::padding(size), 0);
        self.out.write_all(&gzip::trailer(crc32, size)).map_err(Error::writing)
    }

    fn spliced<R: Read + Seek>(
        &mut self,
        entry: &Entry,
        archive: &mut Archive<R>,
        index: usize,
    ) -> Result<()> {
        let (source, data) = archive.data(index)?;
        match source.method {
            Method::Stored => {
                let crc32 =
                    self.compressed(entry, source.uncompressed_size, data).map_err(|error| match error {
                        Error::Write { fault: WriteFault::Size { .. }, .. } => {
                            source.refuse(ZipFault::Truncated)
                        }
                        other => other,
                    })?;
                if crc32 == source.crc32 { Ok(()) } else { Err(source.refuse(ZipFault::Crc)) }
            }
            Method::Deflate => {
                self.begin_file(entry, source.uncompressed_size)?;
                let inflater = self.inflater.get_or_insert_with(Inflater::new);
                let mut sink = Splice {
                    out: (source.uncompressed_size > 0).then_some(&mut self.out),
                    plain: &mut self.digester,
                };
                inflater.inflate(source, data, &mut sink)?;
                self.end_file(source.uncompressed_size, source.crc32)
            }
            Method::Other(method) => Err(source.refuse(ZipFault::Method { method })),
        }
    }
}

/// Copies a zip entry's DEFLATE stream and hashes what it contains.
struct Splice<'a, W: Write> {
    /// `None` for an empty file, which has no member.
    out: Option<&'a mut BufWriter<W>>,
    plain: &'a mut Digester,
}

impl<W: Write> Sink for Splice<'_, W> {
    fn compressed(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.as_mut().map_or(Ok(()), |out| out.write_all(bytes).map_err(Error::writing))
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<()> {
        self.plain.update(bytes);
        Ok(())
    }
}
