// Any bytes as a .npz file: refused, or every array it names has the bytes of its shape.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/formats/npz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const UniqueFd memory(memfd_create("npz", MFD_CLOEXEC));
  if (write(memory.get(), data, size) != static_cast<ssize_t>(size)) abort();
  const absl::StatusOr<NpzFile> file = NpzFile::Open(absl::StrCat("/proc/self/fd/", memory.get()));
  if (!file.ok()) return 0;
  for (const NpzArray& array : file->arrays()) {
    if (file->Find(array.name) != &array) abort();
    uint64_t product = 1;
    for (int64_t dim : array.shape) product *= static_cast<uint64_t>(dim);
    if (product != array.n_elements || array.bytes > size * 1100) abort();
    uint64_t streamed = 0;
    const absl::Status status = file->Stream(array, [&](absl::Span<const char> piece) {
      if (piece.size() % static_cast<size_t>(DTypeSize(array.dtype)) != 0) abort();
      streamed += piece.size();
      return absl::OkStatus();
    });
    if (streamed > array.bytes || (status.ok() && streamed != array.bytes)) abort();
    std::string bytes(array.bytes, '\0');
    if (file->Read(array, absl::MakeSpan(&bytes[0], bytes.size())).ok() != status.ok()) abort();
  }
  return 0;
}
