#include <zlib.h>

#include <algorithm>
#include <limits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/compressed_stream.h"

namespace featurescope {
namespace {

// The largest window, and the format with a gzip header and trailer only.
constexpr int kGzipWindowBits = 15 + 16;
constexpr absl::string_view kGzipMagic = "\x1f\x8b";

uInt Clamped(size_t size) {
  return static_cast<uInt>(std::min<size_t>(size, std::numeric_limits<int>::max()));
}

class GzipDecompressor final : public Decompressor {
 public:
  GzipDecompressor() { ready_ = inflateInit2(&zlib_, kGzipWindowBits) == Z_OK; }
  ~GzipDecompressor() override { inflateEnd(&zlib_); }
  GzipDecompressor(const GzipDecompressor&) = delete;
  GzipDecompressor& operator=(const GzipDecompressor&) = delete;

  absl::StatusOr<size_t> Decompress(absl::string_view* in, bool last,
                                    absl::Span<char> out) override {
    if (!ready_) return ResourceExhausted("no memory for gzip");
    if (!in_member_) {
      ASSIGN_OR_RETURN(in_member_, BeginsMember(in, last));
      if (!in_member_) return 0;
    }
    zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in->data()));
    zlib_.avail_in = Clamped(in->size());
    zlib_.next_out = reinterpret_cast<Bytef*>(out.data());
    zlib_.avail_out = Clamped(out.size());
    const uInt in_before = zlib_.avail_in;
    const uInt out_before = zlib_.avail_out;
    const int result = inflate(&zlib_, Z_NO_FLUSH);
    in->remove_prefix(in_before - zlib_.avail_in);
    const size_t written = out_before - zlib_.avail_out;
    switch (result) {
      case Z_STREAM_END:
        in_member_ = false;
        any_member_ = true;
        if (inflateReset(&zlib_) != Z_OK) return Internal("gzip: inflateReset failed");
        return written;
      case Z_OK:
      case Z_BUF_ERROR:  // nothing to do without more input
        if (written == 0 && in->empty() && last) {
          return absl::DataLossError("the file ends in the middle of a gzip member");
        }
        return written;
      case Z_MEM_ERROR:
        return ResourceExhausted("no memory for gzip");
      default:
        return absl::DataLossError(absl::StrCat(
            "damaged gzip data: ", zlib_.msg == nullptr ? "unknown error" : zlib_.msg));
    }
  }

 private:
  // Skips the padding behind a member. False when more input is needed, or none is left.
  absl::StatusOr<bool> BeginsMember(absl::string_view* in, bool last) const {
    if (any_member_) in->remove_prefix(std::min(in->find_first_not_of('\0'), in->size()));
    if (BeginsGzip(*in)) return true;
    if (in->empty() || (!last && in->size() < kGzipMagic.size())) return false;
    return absl::DataLossError("something that is no gzip member follows");
  }

  z_stream zlib_ = {};
  bool ready_ = false;
  bool in_member_ = false;
  bool any_member_ = false;
};

}  // namespace

std::unique_ptr<Decompressor> MakeGzipDecompressor() {
  return std::make_unique<GzipDecompressor>();
}

bool BeginsGzip(absl::string_view bytes) { return absl::StartsWith(bytes, kGzipMagic); }

}  // namespace featurescope
