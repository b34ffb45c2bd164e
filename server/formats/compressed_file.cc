#include "server/formats/compressed_file.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kBufferBytes = 256u << 10;

Compression CompressionOf(absl::string_view begin) {
  if (BeginsGzip(begin)) return Compression::kGzip;
  if (BeginsZstd(begin)) return Compression::kZstd;
  return Compression::kNone;
}

std::unique_ptr<Decompressor> MakeDecompressor(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return MakeGzipDecompressor();
    case Compression::kZstd:
      return MakeZstdDecompressor();
    case Compression::kNone:
      break;
  }
  return nullptr;
}

}  // namespace

absl::string_view CompressionName(Compression compression) {
  switch (compression) {
    case Compression::kGzip:
      return "gzip";
    case Compression::kZstd:
      return "zstd";
    case Compression::kNone:
      break;
  }
  return "";
}

absl::StatusOr<CompressedFile> CompressedFile::Open(const std::string& path,
                                                    const CompressedFileOptions& options) {
  uint64_t size = 0;
  ASSIGN_OR_RETURN(UniqueFd fd, OpenForReading(path, &size));
  return FromFd(std::move(fd), size, path, options);
}

absl::StatusOr<CompressedFile> CompressedFile::FromFd(UniqueFd fd, uint64_t size, std::string path,
                                                      const CompressedFileOptions& options) {
  CompressedFile file;
  file.path_ = std::move(path);
  file.options_ = options;
  file.fd_ = std::move(fd);
  file.file_bytes_ = size;
  RETURN_IF_ERROR(file.Refill());
  file.compression_ = CompressionOf(file.input());
  file.decompressor_ = MakeDecompressor(file.compression_);
  return file;
}

absl::Status CompressedFile::Refill() {
  buffer_.erase(0, at_);
  at_ = 0;
  const size_t kept = buffer_.size();
  buffer_.resize(kept + std::min<uint64_t>(kBufferBytes, file_bytes_ - offset_));
  RETURN_IF_ERROR(ReadExactly(fd_.get(), offset_,
                              absl::MakeSpan(&buffer_[0] + kept, buffer_.size() - kept), path_));
  offset_ += buffer_.size() - kept;
  return absl::OkStatus();
}

absl::StatusOr<size_t> CompressedFile::Read(absl::Span<char> out) {
  ASSIGN_OR_RETURN(const size_t n, decompressor_ == nullptr ? ReadPlain(out) : ReadCompressed(out));
  bytes_read_ += n;
  RETURN_IF_ERROR(CheckRatio());
  return n;
}

absl::StatusOr<size_t> CompressedFile::ReadPlain(absl::Span<char> out) {
  if (input().empty()) {
    RETURN_IF_ERROR(Refill());
  }
  const size_t n = std::min(out.size(), input().size());
  std::memcpy(out.data(), input().data(), n);
  at_ += n;
  return n;
}

absl::StatusOr<size_t> CompressedFile::ReadCompressed(absl::Span<char> out) {
  while (true) {
    if (input().size() < Decompressor::kMinInputBytes && offset_ < file_bytes_) {
      RETURN_IF_ERROR(Refill());
    }
    absl::string_view rest = input();
    const bool last = offset_ == file_bytes_;
    absl::StatusOr<size_t> n = decompressor_->Decompress(&rest, last, out);
    const size_t used = input().size() - rest.size();
    at_ += used;
    if (!n.ok()) {
      return Annotate(n.status(), absl::StrCat(path_, ": at byte ", file_bytes_read()));
    }
    if (*n > 0) return *n;
    if (used > 0) continue;
    if (last) return 0;
    RETURN_IF_ERROR(Refill());
  }
}

absl::Status CompressedFile::CheckRatio() const {
  const double most = options_.max_ratio * static_cast<double>(file_bytes_read());
  if (decompressor_ == nullptr || bytes_read_ <= options_.ratio_free_bytes ||
      static_cast<double>(bytes_read_) <= most) {
    return absl::OkStatus();
  }
  return InvalidArgument(path_, ": the first ", file_bytes_read(),
                         " bytes decompress to more than ", bytes_read_, ", over ",
                         options_.max_ratio, " times as much; no text is like that");
}

}  // namespace featurescope
