// A fuzz target's input as a file that is open already.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/strings/string_view.h"
#include "server/formats/file.h"

namespace featurescope {

inline UniqueFd MemoryFile(absl::string_view bytes) {
  UniqueFd file(memfd_create("fuzz", MFD_CLOEXEC));
  if (write(file.get(), bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) abort();
  return file;
}

// What stands in front of the first line break, which is taken off *input with it.
inline absl::string_view TakeLine(absl::string_view* input) {
  const absl::string_view line = input->substr(0, input->find('\n'));
  input->remove_prefix(line.size() + (line.size() < input->size() ? 1 : 0));
  return line;
}

}  // namespace featurescope
