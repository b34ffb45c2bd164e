#include <zstd.h>
#include <zstd_errors.h>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/status.h"
#include "server/formats/compressed_stream.h"

namespace featurescope {
namespace {

constexpr int kMaxWindowLog = 27;
constexpr absl::string_view kFrameMagic = "\x28\xb5\x2f\xfd";
constexpr absl::string_view kSkippableMagicTail = "\x2a\x4d\x18";  // behind 0x50 to 0x5f

absl::Status ZstdError(size_t result) {
  switch (ZSTD_getErrorCode(result)) {
    case ZSTD_error_frameParameter_windowTooLarge:
      return InvalidArgument("zstd data that needs a window of more than ",
                             (1u << kMaxWindowLog) >> 20,
                             " MiB; compress it again without --long or --ultra");
    case ZSTD_error_dictionary_wrong:
      return InvalidArgument("zstd data that needs a dictionary; compress it again without");
    case ZSTD_error_memory_allocation:
      return ResourceExhausted("no memory for zstd");
    default:
      return absl::DataLossError(absl::StrCat("damaged zstd data: ", ZSTD_getErrorName(result)));
  }
}

class ZstdDecompressor final : public Decompressor {
 public:
  ZstdDecompressor() : zstd_(ZSTD_createDStream()) {
    ready_ = zstd_ != nullptr &&
             !ZSTD_isError(ZSTD_DCtx_setParameter(zstd_, ZSTD_d_windowLogMax, kMaxWindowLog));
  }
  ~ZstdDecompressor() override { ZSTD_freeDStream(zstd_); }
  ZstdDecompressor(const ZstdDecompressor&) = delete;
  ZstdDecompressor& operator=(const ZstdDecompressor&) = delete;

  absl::StatusOr<size_t> Decompress(absl::string_view* in, bool last,
                                    absl::Span<char> out) override {
    if (!ready_) return ResourceExhausted("no memory for zstd");
    if (!in_frame_) {
      ASSIGN_OR_RETURN(in_frame_, BeginsFrame(*in, last));
      if (!in_frame_) return 0;
    }
    ZSTD_inBuffer input = {in->data(), in->size(), 0};
    ZSTD_outBuffer output = {out.data(), out.size(), 0};
    const size_t result = ZSTD_decompressStream(zstd_, &output, &input);
    in->remove_prefix(input.pos);
    if (ZSTD_isError(result)) return ZstdError(result);
    if (result == 0) {
      in_frame_ = false;
    } else if (output.pos == 0 && in->empty() && last) {
      return absl::DataLossError("the file ends in the middle of a zstd frame");
    }
    return output.pos;
  }

 private:
  // False when more input is needed, or none is left. Frames of the library's old formats, which
  // it would read too, are refused here.
  static absl::StatusOr<bool> BeginsFrame(absl::string_view in, bool last) {
    if (BeginsZstd(in)) return true;
    if (in.empty() || (!last && in.size() < kFrameMagic.size())) return false;
    return absl::DataLossError("something that is no zstd frame follows");
  }

  ZSTD_DStream* const zstd_;
  bool ready_ = false;
  bool in_frame_ = false;
};

}  // namespace

std::unique_ptr<Decompressor> MakeZstdDecompressor() {
  return std::make_unique<ZstdDecompressor>();
}

bool BeginsZstd(absl::string_view bytes) {
  if (absl::StartsWith(bytes, kFrameMagic)) return true;
  return bytes.size() >= kFrameMagic.size() && (static_cast<unsigned char>(bytes[0]) >> 4) == 5 &&
         bytes.substr(1, 3) == kSkippableMagicTail;
}

}  // namespace featurescope
