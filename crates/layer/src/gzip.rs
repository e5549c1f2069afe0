//! gzip members (RFC 1952 §2.3), without a name, a time or a system.

/// Magic, method 8 (DEFLATE), no flags, no time, no extra flags, unknown operating system.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// CRC-32 and length of the uncompressed content, the length modulo 2³².
pub(crate) fn trailer(crc32: u32, size: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&crc32.to_le_bytes());
    bytes[4..].copy_from_slice(&size.to_le_bytes()[..4]);
    bytes
}
