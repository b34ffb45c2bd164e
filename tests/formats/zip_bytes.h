// Zip archives made by hand, whole or damaged on purpose.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/formats/little_endian.h"

namespace featurescope {

struct ZipPart {
  std::string name;
  std::string content;
  bool deflate = false;
};

inline std::string Deflated(const std::string& content) {
  z_stream stream = {};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 9, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(&out[0]);
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

// With `zip64` every size and offset stands in the 64-bit fields.
inline std::string ZipBytes(const std::vector<ZipPart>& parts, bool zip64 = false,
                            absl::string_view comment = "") {
  std::string out, directory;
  const auto zip64_extra = [&](const std::vector<uint64_t>& values) {
    std::string extra;
    if (!zip64) return extra;
    AppendLe(&extra, uint16_t{1});
    AppendLe(&extra, static_cast<uint16_t>(8 * values.size()));
    for (uint64_t value : values) AppendLe(&extra, value);
    return extra;
  };
  const auto narrow = [&](uint64_t value) {
    return zip64 ? 0xFFFFFFFF : static_cast<uint32_t>(value);
  };
  for (const ZipPart& part : parts) {
    const std::string bytes = part.deflate ? Deflated(part.content) : part.content;
    const uint64_t offset = out.size();
    std::string common;  // of both headers
    AppendLe(&common, uint16_t{0});
    AppendLe(&common, static_cast<uint16_t>(part.deflate ? 8 : 0));
    AppendLe(&common, uint32_t{0});
    AppendLe(&common,
             static_cast<uint32_t>(crc32_z(0, reinterpret_cast<const Bytef*>(part.content.data()),
                                           part.content.size())));
    AppendLe(&common, narrow(bytes.size()));
    AppendLe(&common, narrow(part.content.size()));
    AppendLe(&common, static_cast<uint16_t>(part.name.size()));
    const std::string local_extra = zip64_extra({part.content.size(), bytes.size()});
    const std::string extra = zip64_extra({part.content.size(), bytes.size(), offset});
    out.append("PK\x03\x04");
    AppendLe(&out, uint16_t{20});
    out.append(common);
    AppendLe(&out, static_cast<uint16_t>(local_extra.size()));
    out.append(part.name + local_extra + bytes);
    directory.append("PK\x01\x02");
    AppendLe(&directory, uint32_t{20});
    directory.append(common);
    AppendLe(&directory, static_cast<uint16_t>(extra.size()));
    directory.append(10, '\0');
    AppendLe(&directory, narrow(offset));
    directory.append(part.name + extra);
  }
  const uint64_t offset = out.size();
  const uint64_t end_offset = offset + directory.size();
  out.append(directory);
  if (zip64) {
    out.append("PK\x06\x06");
    AppendLe(&out, uint64_t{44});
    AppendLe(&out, uint32_t{0});
    AppendLe(&out, uint64_t{0});
    for (uint64_t value :
         {uint64_t{parts.size()}, uint64_t{parts.size()}, uint64_t{directory.size()}, offset}) {
      AppendLe(&out, value);
    }
    out.append("PK\x06\x07");
    AppendLe(&out, uint32_t{0});
    AppendLe(&out, end_offset);
    AppendLe(&out, uint32_t{1});
  }
  out.append("PK\x05\x06");
  AppendLe(&out, uint32_t{0});
  AppendLe(&out, static_cast<uint16_t>(zip64 ? 0xFFFF : parts.size()));
  AppendLe(&out, static_cast<uint16_t>(zip64 ? 0xFFFF : parts.size()));
  AppendLe(&out, narrow(directory.size()));
  AppendLe(&out, narrow(offset));
  AppendLe(&out, static_cast<uint16_t>(comment.size()));
  out.append(comment.data(), comment.size());
  return out;
}

// Where the n-th structure with this signature ("PK\x03\x04" ...) begins.
inline size_t ZipStructure(const std::string& bytes, absl::string_view signature, int n = 0) {
  size_t at = bytes.find(std::string(signature));
  while (n-- > 0) at = bytes.find(std::string(signature), at + 1);
  return at;
}

// `bytes` with the integer at `at` replaced.
template <typename T>
std::string Patched(std::string bytes, size_t at, T value) {
  std::memcpy(&bytes[at], &value, sizeof(value));
  return bytes;
}

}  // namespace featurescope
