//! What a composed blob is made of: pure.
//!
//! Most bytes of a blob may stand in another file already, its *source*: a layer spliced of a wheel is the wheel's own
//! DEFLATE streams, with headers in between. The recipe of such a blob has the bytes that stand nowhere else, and says
//! where the others are. Version 1 is, integers little-endian:
//!
//! ```text
//! literals   the bytes that are not the source's, one after the other
//! rows       for each segment of the blob, in order: its place in the source, or 2⁶⁴-1 if it is the next of the
//!            literals; its length (two u64)
//! footer     "LSRECIPE"; version, number of rows (two u32); length of the literals, of the source, of the blob
//!            (three u64)
//! ```
//!
//! The literals come first so that they can be written as they come.

/// The version that is written, and the only one that is read.
const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"LSRECIPE";
/// The length of the footer.
pub(crate) const FOOTER: usize = 40;
/// The length of a row.
const ROW: usize = 16;
/// The place of a segment that is not in the source.
const LITERAL: u64 = u64::MAX;
/// So many rows a recipe has at most: whoever reads the blob holds them, 16 MiB then.
const MOST_ROWS: usize = 1 << 19;
/// Fewer bytes of the source are written again rather than referred to: to read them from elsewhere takes longer.
const LEAST_COPY: u64 = 4096;

/// Why a composed blob cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecipeFault {
    /// Its recipe is none, or was cut or changed.
    #[error("{0}")]
    Format(&'static str),
    /// Its recipe is of a version that is not known here.
    #[error("its recipe is of version {0}, and this longshore reads version {VERSION}")]
    Version(u32),
    /// The file that has most of its bytes is gone.
    #[error("the file that has its bytes is gone")]
    SourceMissing,
    /// The file that has most of its bytes has another length than it had.
    #[error("the file that has its bytes had {expected} bytes and now has {found}")]
    SourceLength {
        /// The length that it had.
        expected: u64,
        /// The length that it has.
        found: u64,
    },
}

/// Where the bytes of a segment are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the recipe, from here on.
    Recipe(u64),
    /// In the source, from here on.
    Source(u64),
}

/// Some bytes of a blob that are together elsewhere too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where it begins in the blob.
    pub(crate) start: u64,
    /// Where it ends in the blob.
    pub(crate) end: u64,
    /// Where its bytes are.
    pub(crate) place: Place,
}

/// The end of a recipe: all that is to be known of the blob without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    rows: u32,
    literals: u64,
    /// The length of the source.
    pub(crate) source: u64,
    /// The length of the blob.
    pub(crate) size: u64,
}

impl Footer {
    /// The footer of a recipe of `length` bytes, from its last ones.
    pub(crate) fn parse(bytes: &[u8; FOOTER], length: u64) -> Result<Self, RecipeFault> {
        let (magic, fields) = bytes.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(RecipeFault::Format("its recipe does not end like one"));
        }
        let mut fields = Fields(fields);
        let (version, rows) = (fields.u32(), fields.u32());
        let (literals, source, size) = (fields.u64(), fields.u64(), fields.u64());
        if version != VERSION {
            return Err(RecipeFault::Version(version));
        }
        if usize::try_from(rows).is_ok_and(|rows| rows > MOST_ROWS) {
            return Err(RecipeFault::Format("its recipe has more segments than any"));
        }
        let said = literals.checked_add(u64::from(rows) * ROW as u64 + FOOTER as u64);
        if said != Some(length) {
            return Err(RecipeFault::Format("its recipe is not as long as it says"));
        }
        Ok(Self { rows, literals, source, size })
    }

    /// Where the rows stand in the recipe, and their length.
    pub(crate) fn table(&self) -> (u64, usize) {
        // At most `MOST_ROWS`, which fit.
        (self.literals, usize::try_from(self.rows).unwrap_or(MOST_ROWS) * ROW)
    }

    /// The segments that the rows say. They are the blob from end to end, and lie in the recipe and in the source.
    pub(crate) fn segments(&self, table: &[u8]) -> Result<Vec<Segment>, RecipeFault> {
        const BEYOND: RecipeFault = RecipeFault::Format("its recipe has a segment that lies nowhere");
        let mut segments = Vec::with_capacity(table.len() / ROW);
        let (mut start, mut literals) = (0_u64, 0_u64);
        for row in table.chunks_exact(ROW) {
            let mut fields = Fields(row);
            let (offset, length) = (fields.u64(), fields.u64());
            let (place, limit) = match offset {
                LITERAL => (Place::Recipe(literals), self.literals),
                offset => (Place::Source(offset), self.source),
            };
            let (Place::Recipe(from) | Place::Source(from)) = place;
            let ends = from.checked_add(length).filter(|ends| length > 0 && *ends <= limit);
            let ends = ends.ok_or(BEYOND)?;
            if offset == LITERAL {
                literals = ends;
            }
            let end = start.checked_add(length).ok_or(BEYOND)?;
            segments.push(Segment { start, end, place });
            start = end;
        }
        if start != self.size || literals != self.literals {
            return Err(RecipeFault::Format("the segments of its recipe are not the blob"));
        }
        Ok(segments)
    }
}

/// A recipe as it grows, without the literals.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    rows: Vec<(u64, u64)>,
    literals: u64,
    size: u64,
}

impl Draft {
    /// The next bytes are literals.
    pub(crate) fn literal(&mut self, length: u64) {
        match self.rows.last_mut() {
            _ if length == 0 => return,
            Some((LITERAL, before)) => *before += length,
            _ => self.rows.push((LITERAL, length)),
        }
        self.literals += length;
        self.size += length;
    }

    /// Whether it is worth it that the next bytes are those of the source from `offset` on.
    pub(crate) fn would_refer(&self, offset: u64, length: u64) -> bool {
        // The row of a literal may have to follow.
        length > 0 && (self.continues(offset) || length >= LEAST_COPY && self.rows.len() + 2 <= MOST_ROWS)
    }

    /// The next bytes are those of the source from `offset` on.
    pub(crate) fn refer(&mut self, offset: u64, length: u64) {
        match self.rows.last_mut() {
            Some((from, before)) if *from != LITERAL && *from + *before == offset => *before += length,
            _ => self.rows.push((offset, length)),
        }
        self.size += length;
    }

    fn continues(&self, offset: u64) -> bool {
        self.rows.last().is_some_and(|(from, length)| *from != LITERAL && from + length == offset)
    }

    /// Whether nothing is in the source.
    pub(crate) const fn is_literal(&self) -> bool {
        self.literals == self.size
    }

    /// What follows the literals in the recipe, given the length of the source.
    pub(crate) fn finish(&self, source: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.rows.len() * ROW + FOOTER);
        for (offset, length) in &self.rows {
            bytes.extend_from_slice(&offset.to_le_bytes());
            bytes.extend_from_slice(&length.to_le_bytes());
        }
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&u32::try_from(self.rows.len()).unwrap_or(u32::MAX).to_le_bytes());
        for field in [self.literals, source, self.size] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        bytes
    }
}

/// Integers, one after the other. There are as many bytes as are asked for.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const LENGTH: usize>(&mut self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        if let Some((taken, rest)) = self.0.split_first_chunk() {
            (bytes, self.0) = (*taken, rest);
        }
        bytes
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A recipe from its bytes, as a reader takes it.
    fn parse(recipe: &[u8]) -> Result<(Footer, Vec<Segment>), RecipeFault> {
        let Some((_, footer)) = recipe.split_last_chunk() else {
            return Err(RecipeFault::Format("its recipe is too short"));
        };
        let footer = Footer::parse(footer, recipe.len() as u64)?;
        let (at, length) = footer.table();
        let at = usize::try_from(at).unwrap();
        let segments = footer.segments(&recipe[at..at + length])?;
        Ok((footer, segments))
    }

    fn recipe(literals: &[u8], draft: &Draft, source: u64) -> Vec<u8> {
        [literals, &draft.finish(source)].concat()
    }

    #[test]
    fn what_belongs_together_is_one_segment_and_little_is_not_referred_to() {
        let mut draft = Draft::default();
        draft.literal(3);
        draft.literal(4);
        assert!(!draft.would_refer(100, LEAST_COPY - 1));
        assert!(draft.would_refer(100, LEAST_COPY));
        draft.refer(100, LEAST_COPY);
        assert!(draft.would_refer(100 + LEAST_COPY, 1), "it goes on where the last ended");
        draft.refer(100 + LEAST_COPY, 1);
        assert!(!draft.would_refer(100, 1));
        let (footer, segments) = parse(&recipe(&[0; 7], &draft, 10_000)).unwrap();
        assert_eq!((footer.size, footer.source), (LEAST_COPY + 8, 10_000));
        assert_eq!(
            segments,
            [
                Segment { start: 0, end: 7, place: Place::Recipe(0) },
                Segment { start: 7, end: LEAST_COPY + 8, place: Place::Source(100) },
            ]
        );
    }

    #[test]
    fn a_version_from_the_future_is_named() {
        let mut bytes = Draft::default().finish(0);
        bytes[8] = 2;
        assert_eq!(parse(&bytes).unwrap_err(), RecipeFault::Version(2));
    }

    #[test]
    fn segments_that_lie_nowhere_are_refused() {
        let mut draft = Draft::default();
        draft.refer(5, 10);
        assert!(parse(&recipe(&[], &draft, 15)).is_ok());
        assert!(parse(&recipe(&[], &draft, 14)).is_err(), "beyond the source");
        draft.rows[0] = (u64::MAX - 1, 10);
        assert!(parse(&recipe(&[], &draft, u64::MAX)).is_err(), "its end is no number");
        draft.rows[0] = (LITERAL, 10);
        assert!(parse(&recipe(&[], &draft, 15)).is_err(), "beyond the literals");
        draft.rows[0] = (5, 0);
        assert!(parse(&recipe(&[], &draft, 15)).is_err(), "empty");
        draft.rows[0] = (5, 9);
        assert!(parse(&recipe(&[], &draft, 15)).is_err(), "less than the blob");
    }

    /// Segments of at most these lengths, each from the source or not.
    fn steps() -> impl Strategy<Value = Vec<(Option<u64>, u64)>> {
        prop::collection::vec((prop::option::of(0_u64..1 << 20), 1_u64..9000), 0..40)
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(steps in steps()) {
            const SOURCE: u64 = 2 << 20;
            let (mut draft, mut literals, mut expected) = (Draft::default(), 0_u64, Vec::new());
            for (offset, length) in steps {
                if let Some(offset) = offset.filter(|offset| draft.would_refer(*offset, length)) {
                    draft.refer(offset, length);
                    expected.extend((offset..offset + length).map(Place::Source));
                } else {
                    draft.literal(length);
                    expected.extend((literals..literals + length).map(Place::Recipe));
                    literals += length;
                }
            }
            let bytes = recipe(&vec![0; usize::try_from(literals).unwrap()], &draft, SOURCE);
            let (footer, segments) = parse(&bytes).unwrap();
            prop_assert_eq!((footer.source, footer.size), (SOURCE, expected.len() as u64));
            let mut found = Vec::new();
            for Segment { start, end, place } in segments {
                prop_assert_eq!(start, found.len() as u64);
                found.extend((0..end - start).map(|at| match place {
                    Place::Recipe(from) => Place::Recipe(from + at),
                    Place::Source(from) => Place::Source(from + at),
                }));
            }
            prop_assert_eq!(found, expected);
        }

        /// Whatever is changed in a recipe: it is refused, or what it says lies in the files that it names.
        #[test]
        fn no_bytes_lead_out_of_the_files(
            steps in steps(),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
            cut in 0_usize..48,
        ) {
            let mut draft = Draft::default();
            for (offset, length) in steps {
                match offset {
                    Some(offset) => draft.refer(offset, length),
                    None => draft.literal(length % 50),
                }
            }
            let literals = vec![0; usize::try_from(draft.literals).unwrap()];
            let mut bytes = recipe(&literals, &draft, 2 << 20);
            for (at, value) in changes {
                // The rows and the footer: in the literals anything may stand.
                let table = literals.len()..bytes.len();
                bytes[table.start + at.index(table.len())] = value;
            }
            let cut = if cut < FOOTER { cut } else { 0 };
            bytes.truncate(bytes.len() - cut);
            if let Ok((footer, segments)) = parse(&bytes) {
                let mut at = 0;
                for Segment { start, end, place } in segments {
                    prop_assert!(start == at && end > start);
                    at = end;
                    match place {
                        Place::Recipe(from) => prop_assert!(from + (end - start) <= bytes.len() as u64),
                        Place::Source(from) => prop_assert!(from + (end - start) <= footer.source),
                    }
                }
                prop_assert_eq!(at, footer.size);
            }
        }

        #[test]
        fn any_bytes_are_refused_or_read(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[&bytes[..], &Draft::default().finish(0)].concat());
        }
    }
}
