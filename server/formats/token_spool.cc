#include "server/formats/token_spool.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace featurescope {
namespace {

constexpr size_t kBufferBytes = 1u << 20;

template <typename T>
absl::string_view Bytes(const T* values, size_t n) {
  return absl::string_view(reinterpret_cast<const char*>(values), n * sizeof(T));
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenSpool>> TokenSpool::Create(const std::string& dir) {
  std::string path = JoinPath(dir, "heldout.tmp");
  if (unlink(path.c_str()) != 0 && errno != ENOENT) return ErrnoStatus(errno, path);
  UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
  if (!fd.valid() || unlink(path.c_str()) != 0) return ErrnoStatus(errno, path);
  return std::unique_ptr<TokenSpool>(new TokenSpool(std::move(fd), std::move(path)));
}

absl::Status TokenSpool::Append(absl::Span<const uint32_t> ids) {
  const uint64_t n = ids.size();
  for (const absl::string_view bytes : {Bytes(&n, 1), Bytes(ids.data(), ids.size())}) {
    buffer_.append(bytes.data(), bytes.size());
  }
  ++n_documents_;
  n_tokens_ += n;
  return buffer_.size() < kBufferBytes ? absl::OkStatus() : Flush();
}

absl::Status TokenSpool::Flush() {
  for (size_t at = 0; at < buffer_.size();) {
    const ssize_t n = write(fd_.get(), buffer_.data() + at, buffer_.size() - at);
    if (n >= 0) {
      at += static_cast<size_t>(n);
    } else if (errno != EINTR) {
      return ErrnoStatus(errno, absl::StrCat(path_, ": cannot write"));
    }
  }
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status TokenSpool::ForEach(
    const std::function<absl::Status(absl::Span<const uint32_t>)>& visit) {
  RETURN_IF_ERROR(Flush());
  std::vector<uint32_t> ids;
  uint64_t offset = 0;
  const auto read = [&](void* out, size_t bytes) {
    absl::Status status =
        ReadExactly(fd_.get(), offset, absl::MakeSpan(static_cast<char*>(out), bytes), path_);
    offset += bytes;
    return status;
  };
  for (uint64_t i = 0; i < n_documents_; ++i) {
    uint64_t n = 0;
    RETURN_IF_ERROR(read(&n, sizeof(n)));
    ids.resize(n);
    RETURN_IF_ERROR(read(ids.data(), n * sizeof(uint32_t)));
    RETURN_IF_ERROR(visit(ids));
  }
  return absl::OkStatus();
}

}  // namespace featurescope
