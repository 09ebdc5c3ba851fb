//! Deflated grains: a marker, then a zlib stream with a checksum (VDF "Stream-Optimized Compressed Sparse Extents").

use flate2::{Decompress, FlushDecompress, Status};

use crate::error::VmdkError;
use crate::format::SECTOR_BYTES;
use crate::format::stream::{GRAIN_MARKER_BYTES, GrainMarker};
use crate::sparse::SparseExtent;

impl SparseExtent<'_> {
    /// Unpacks the grain that begins at `grain_start` of the extent and whose marker is at `at` of the file into
    /// `grain`, which is a whole grain long.
    pub fn unpack(&self, at: u64, grain_start: u64, grain: &mut [u8]) -> Result<(), VmdkError> {
        let damaged = |reason: String| self.damaged(at, grain_start, reason);
        let mut marker = [0; GRAIN_MARKER_BYTES as usize];
        if !self.source.holds(at, GRAIN_MARKER_BYTES) {
            return Err(damaged("the file ends before the end of this grain's marker".into()));
        }
        self.source.read(&mut marker, at)?;
        let marker = GrainMarker::parse(&marker);
        let sector = grain_start / SECTOR_BYTES;
        if marker.lba_sectors != sector {
            return Err(damaged(format!("the grain of sector {sector} has the marker of {}", marker.lba_sectors)));
        }
        let packed_bytes = u64::from(marker.packed_bytes);
        // Deflate adds a few bytes per 16 KiB to what it cannot make smaller; nothing doubles it.
        if packed_bytes == 0 || packed_bytes > 2 * self.map.grain_bytes() + SECTOR_BYTES {
            return Err(damaged(format!("a packed grain of {packed_bytes} bytes is impossible")));
        }
        let data_at = at + GRAIN_MARKER_BYTES;
        if !self.source.holds(data_at, packed_bytes) {
            return Err(damaged(format!("the file ends before the end of this grain's {packed_bytes} bytes")));
        }
        let mut packed = vec![0; usize::try_from(packed_bytes).unwrap_or_default()];
        self.source.read(&mut packed, data_at)?;
        let unpacked = inflate(&packed, grain).map_err(damaged)?;
        // The last grain may be cut to the extent's end, or filled up to a whole one.
        if unpacked < self.grain_length(grain_start) {
            return Err(damaged(format!("the grain unpacks to {unpacked} bytes only")));
        }
        Ok(())
    }
}

/// Inflates a whole zlib stream and returns its length.
fn inflate(packed: &[u8], out: &mut [u8]) -> Result<u64, String> {
    let mut stream = Decompress::new(true);
    match stream.decompress(packed, out, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) => Ok(stream.total_out()),
        Ok(Status::Ok | Status::BufError) if stream.total_out() >= out.len() as u64 => {
            Err(format!("the grain unpacks to more than {} bytes", out.len()))
        }
        Ok(Status::Ok | Status::BufError) => Err("the grain's deflated bytes end too early".into()),
        Err(error) => Err(format!("the grain cannot be inflated: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn a_stream_that_fills_the_grain_exactly_is_whole() {
        for content in [vec![0; 4096], (0..4096u32).map(|i| (i * i % 251) as u8).collect()] {
            let mut out = vec![1; 4096];
            assert_eq!(inflate(&deflated(&content), &mut out), Ok(4096));
            assert_eq!(out, content);
        }
    }

    #[test]
    fn every_kind_of_wrong_stream_is_told_apart() {
        let good = deflated(&[3; 4096]);
        let mut out = vec![0; 4096];
        assert!(inflate(&good, &mut out[..4095]).unwrap_err().contains("more than 4095"));
        assert!(inflate(&good[..good.len() - 1], &mut out).is_err());
        let mut wrong_checksum = good.clone();
        *wrong_checksum.last_mut().unwrap() ^= 1;
        assert!(inflate(&wrong_checksum, &mut out).unwrap_err().contains("cannot be inflated"));
        assert!(inflate(b"neither zlib nor anything", &mut out).unwrap_err().contains("cannot be inflated"));
    }
}
