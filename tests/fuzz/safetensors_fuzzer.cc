// Any bytes as a safetensors file: refused, or every tensor it names can be read whole.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/formats/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace featurescope;
  const UniqueFd memory(memfd_create("safetensors", MFD_CLOEXEC));
  if (write(memory.get(), data, size) != static_cast<ssize_t>(size)) abort();
  const absl::StatusOr<SafetensorsFile> file =
      SafetensorsFile::Open(absl::StrCat("/proc/self/fd/", memory.get()));
  if (!file.ok()) return 0;
  uint64_t total = 0;
  for (const TensorEntry& entry : file->entries()) {
    if (file->Find(entry.name) != &entry) abort();
    std::string bytes(entry.bytes(), '\0');
    if (!file->Read(entry, absl::MakeSpan(&bytes[0], bytes.size())).ok()) abort();
    total += bytes.size();
  }
  if (total != file->data_bytes()) abort();
  return 0;
}
