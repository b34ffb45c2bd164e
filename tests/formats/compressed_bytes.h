// gzip members and zstd frames for tests.
#pragma once

#include <zlib.h>
#include <zstd.h>

#include <cstdlib>
#include <string>

namespace featurescope {

inline std::string Gzip(const std::string& text) {
  z_stream zlib = {};
  if (deflateInit2(&zlib, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) abort();
  std::string bytes(deflateBound(&zlib, text.size()), '\0');
  zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  zlib.avail_in = static_cast<uInt>(text.size());
  zlib.next_out = reinterpret_cast<Bytef*>(&bytes[0]);
  zlib.avail_out = static_cast<uInt>(bytes.size());
  if (deflate(&zlib, Z_FINISH) != Z_STREAM_END) abort();
  bytes.resize(zlib.total_out);
  deflateEnd(&zlib);
  return bytes;
}

// With a checksum.
inline std::string Zstd(const std::string& text) {
  ZSTD_CCtx* zstd = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(zstd, ZSTD_c_checksumFlag, 1);
  std::string bytes(ZSTD_compressBound(text.size()), '\0');
  const size_t size = ZSTD_compress2(zstd, &bytes[0], bytes.size(), text.data(), text.size());
  if (ZSTD_isError(size)) abort();
  bytes.resize(size);
  ZSTD_freeCCtx(zstd);
  return bytes;
}

}  // namespace featurescope
