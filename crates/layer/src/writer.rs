//! Writing a layer.

use std::io::{self, Read, Seek, Write};

use longshore_oci::Digest;

use crate::{
    Entry, EntryPath, Error, Kind, Level, Result, WriteFault,
    content::{self, Compressor, Outcome, Side},
    deflate::Encoder,
    estargz::{self, Member, Toc},
    gzip,
    inflate::{Inflater, Sink},
    output::{CopyFrom, Output, Plain},
    tar,
    zip::{Archive, Method, ZipFault},
    zstd::Frames,
};

/// Headers are written as a member of their own before every content, and as soon as so many have come together.
const LARGEST_HEADER_MEMBER: usize = 32 * 1024;
/// What a name of a removed entry begins with (OCI image specification, "Whiteouts").
pub(crate) const WHITEOUT: &str = ".wh.";
/// The name that hides everything that lower layers have in its directory ("Opaque Whiteout").
pub(crate) const OPAQUE: &str = ".wh..wh..opq";

/// Writes a layer, laid out as the [crate] says.
///
/// Entries come in strictly ascending order of their paths ([`EntryPath`]'s order). Directories on the way to an entry
/// that were not added are written by the writer, with mode 0755, of root's, with the entry's time.
/// After an error the writer refuses to go on, so that no half-written layer is ever finished.
pub struct LayerWriter<W: Write> {
    out: Output<W>,
    level: Level,
    /// tar bytes that wait for their member: padding of the last content, then headers.
    pending: Vec<u8>,
    member: Vec<u8>,
    encoder: Encoder,
    compressor: Option<Compressor>,
    inflater: Option<Inflater>,
    plain: Plain,
    /// The table of contents, if the layer is to have one.
    toc: Option<Toc>,
    /// The frames, if the layer is in Zstandard: there are no members then.
    frames: Option<Frames>,
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

/// What a layer is besides a tar archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// gzip, and nothing else.
    #[default]
    Plain,
    /// gzip, with files that can be fetched one by one: [`estargz`](crate::estargz).
    Estargz,
    /// Zstandard: [`zstd`](crate::zstd).
    Zstd,
}

/// What a finished layer is. Digest and size of its compressed bytes are known to whoever received them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSummary {
    /// The digest of the uncompressed tar archive.
    pub diff_id: Digest,
    /// The size of the uncompressed tar archive.
    pub uncompressed_size: u64,
    /// How many entries it has, with those that the writer added.
    pub entries: u64,
    /// The digest of its table of contents, if it is an eStargz layer.
    pub toc: Option<Digest>,
}

/// What takes where to write a layer to also takes a writer, which may be of another format.
impl<W: Write> From<W> for LayerWriter<W> {
    fn from(out: W) -> Self {
        Self::new(out)
    }
}

impl<W: Write> LayerWriter<W> {
    /// Begins a layer that is written to `out`, compressing at [`Level::Normal`] what does not come compressed.
    pub fn new(out: W) -> Self {
        Self::with_level(out, Level::default())
    }

    /// Begins a layer with another level.
    pub fn with_level(out: W, level: Level) -> Self {
        Self {
            out: Output::new(out),
            level,
            pending: Vec::with_capacity(2 * LARGEST_HEADER_MEMBER),
            member: Vec::new(),
            encoder: Encoder::new(),
            compressor: None,
            inflater: None,
            plain: Plain::new(),
            toc: None,
            frames: None,
            entries: 0,
            last: None,
            state: State::Good,
        }
    }

    /// Begins a layer of another format, at [`Level::Normal`].
    pub fn with_format(out: W, format: Format) -> Result<Self> {
        let mut writer = Self::new(out);
        match format {
            Format::Plain => {}
            Format::Estargz => {
                writer.toc = Some(Toc::new());
                writer.guarded(Self::landmark)?;
            }
            Format::Zstd => writer.frames = Some(Frames::new()),
        }
        Ok(writer)
    }

    /// The same layer, whose copied bytes are not written but given to `copy`: the DEFLATE streams of
    /// [`splice`](Self::splice), with the place that they have in the archive's file. The layer is the same.
    #[must_use]
    pub fn copying(mut self, copy: CopyFrom<W>) -> Self {
        self.out.copying(copy);
        self
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

    /// Adds a file with the content of the zip archive's entry at `index`, reusing its DEFLATE stream as it is, unless
    /// the layer is in Zstandard. The stream is inflated once, to check it against the zip's CRC-32 and sizes and to hash
    /// it. The content of a stored entry is compressed like that of [`file`](Self::file).
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
        let toc = self.guarded(|this| {
            if let Some(toc) = this.toc.take() {
                return this.table(toc).map(Some);
            }
            this.pending.extend_from_slice(&tar::END);
            this.flush()?;
            if let Some(frames) = this.frames.take() {
                frames.finish(&mut this.out).map_err(Error::writing)?;
            }
            Ok(None)
        })?;
        let (diff_id, uncompressed_size) = self.plain.finish();
        let summary = LayerSummary { diff_id, uncompressed_size, entries: self.entries, toc };
        Ok((self.out.into_inner().map_err(Error::writing)?, summary))
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
        if let Some(toc) = &self.toc {
            toc.check(entry)?;
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
        if let Some(toc) = self.toc.as_mut().filter(|_| size == 0) {
            toc.append(entry, 0, None)?;
        }
        if self.pending.len() >= LARGEST_HEADER_MEMBER { self.flush() } else { Ok(()) }
    }

    /// Writes what is pending as one member.
    fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.plain.update(&self.pending);
        if let Some(frames) = &mut self.frames {
            frames.write(&self.pending, &mut self.out).map_err(Error::writing)?;
            self.pending.clear();
            return Ok(());
        }
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
        self.content(entry, size, content)
    }

    /// Writes a file's content behind its headers.
    fn content(&mut self, entry: &Entry, size: u64, content: impl Read) -> Result<u32> {
        let offset = self.begin_content(size)?;
        let level = self.level;
        let refuse = |is| Error::Write { path: entry.path.clone(), fault: WriteFault::Size { is, size } };
        let written = if let Some(frames) = &mut self.frames {
            let mut sink = Framed { frames, out: &mut self.out, plain: &mut self.plain };
            content::copy(size, content, |bytes| sink.write(bytes))
        } else {
            let compressor = self.compressor.get_or_insert_with(|| Compressor::new(level));
            compressor.write(size, content, &mut self.out, &mut self.plain)
        };
        match written {
            Ok(Outcome::Whole { crc32 }) => self.end_content(entry, size, crc32, offset).map(|()| crc32),
            Ok(Outcome::Short) => Err(refuse("less than")),
            Ok(Outcome::Long) => Err(refuse("more than")),
            Err(Side::Input(error)) => Err(Error::reading(error)),
            Err(Side::Output(error)) => Err(Error::writing(error)),
        }
    }

    /// Writes a file's headers.
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
        self.header(entry, size)
    }

    /// Begins the member for a file's content, unless the file is empty; gives the member's place.
    fn begin_content(&mut self, size: u64) -> Result<u64> {
        if size == 0 {
            return Ok(self.out.position());
        }
        self.flush()?;
        if self.toc.is_some() {
            self.plain.begin_file();
        }
        let offset = self.out.position();
        if self.frames.is_none() {
            self.out.write_all(&gzip::HEADER).map_err(Error::writing)?;
        }
        Ok(offset)
    }

    /// Ends the content's member; the padding is left to the next member of headers.
    fn end_content(&mut self, entry: &Entry, size: u64, crc32: u32, offset: u64) -> Result<()> {
        if size == 0 {
            return Ok(());
        }
        if let (Some(toc), Some(digest)) = (&mut self.toc, self.plain.end_file()) {
            toc.append(entry, size, Some(Member { offset, digest }))?;
        }
        self.pending.resize(tar::padding(size), 0);
        if self.frames.is_some() {
            return Ok(());
        }
        self.out.write_all(&gzip::trailer(crc32, size)).map_err(Error::writing)
    }

    /// Writes the entry that says that nothing is to be fetched ahead. It stands outside the order.
    fn landmark(&mut self) -> Result<()> {
        let entry = Entry::file(EntryPath::new(estargz::LANDMARK)?, 0o644);
        let content = estargz::LANDMARK_CONTENT;
        self.append(&entry, content.len() as u64)?;
        self.content(&entry, content.len() as u64, &content[..])?;
        self.last = None;
        Ok(())
    }

    /// Ends the archive with its table of contents, and adds the footer; gives the table's digest.
    fn table(&mut self, toc: Toc) -> Result<Digest> {
        self.flush()?;
        let json = toc.finish();
        let entry = Entry::file(EntryPath::new(estargz::TOC)?, 0o644);
        let mut header = Vec::new();
        tar::append_header(&mut header, &entry, json.len() as u64)?;
        self.entries += 1;
        let end = vec![0; tar::padding(json.len() as u64) + tar::END.len()];
        let size = (header.len() + json.len() + end.len()) as u64;
        let offset = self.begin_content(size)?;
        let member = header.chain(&json[..]).chain(&end[..]);
        let level = self.level;
        let compressor = self.compressor.get_or_insert_with(|| Compressor::new(level));
        let crc32 = match compressor.write(size, member, &mut self.out, &mut self.plain) {
            Ok(Outcome::Whole { crc32 }) => crc32,
            Ok(Outcome::Short | Outcome::Long) => {
                return Err(Error::writing(io::Error::other("the table of contents changed its size")));
            }
            Err(Side::Input(error) | Side::Output(error)) => return Err(Error::writing(error)),
        };
        self.out.write_all(&gzip::trailer(crc32, size)).map_err(Error::writing)?;
        self.out.write_all(&estargz::footer(offset)).map_err(Error::writing)?;
        Ok(Digest::of(&json))
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
                let offset = self.begin_content(source.uncompressed_size)?;
                let inflater = self.inflater.get_or_insert_with(Inflater::new);
                if let Some(frames) = &mut self.frames {
                    let mut sink = Framed { frames, out: &mut self.out, plain: &mut self.plain };
                    inflater.inflate(source, data, &mut sink)?;
                } else {
                    let mut sink = Splice {
                        out: (source.uncompressed_size > 0).then_some(&mut self.out),
                        plain: &mut self.plain,
                        offset: source.data_offset,
                    };
                    inflater.inflate(source, data, &mut sink)?;
                }
                self.end_content(entry, source.uncompressed_size, source.crc32, offset)
            }
            Method::Other(method) => Err(source.refuse(ZipFault::Method { method })),
        }
    }
}

/// Hashes plain bytes and puts them into frames.
struct Framed<'a, W: Write> {
    frames: &'a mut Frames,
    out: &'a mut Output<W>,
    plain: &'a mut Plain,
}

impl<W: Write> Framed<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.plain.update(bytes);
        self.frames.write(bytes, self.out)
    }
}

impl<W: Write> Sink for Framed<'_, W> {
    fn compressed(&mut self, _: &[u8]) -> Result<()> {
        Ok(())
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes).map_err(Error::writing)
    }
}

/// Copies a zip entry's DEFLATE stream and hashes what it contains.
struct Splice<'a, W: Write> {
    /// `None` for an empty file, which has no member.
    out: Option<&'a mut Output<W>>,
    plain: &'a mut Plain,
    /// The place of the next bytes of the stream in the archive's file.
    offset: u64,
}

impl<W: Write> Sink for Splice<'_, W> {
    fn compressed(&mut self, bytes: &[u8]) -> Result<()> {
        let offset = self.offset;
        self.offset += bytes.len() as u64;
        self.out.as_mut().map_or(Ok(()), |out| out.copy(offset, bytes).map_err(Error::writing))
    }

    fn plain(&mut self, bytes: &[u8]) -> Result<()> {
        self.plain.update(bytes);
        Ok(())
    }
}
