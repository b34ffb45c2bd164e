// Little-endian integers in byte strings.
#pragma once

#include <cstring>
#include <string>
#include <type_traits>

namespace featurescope {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "files are read as they lie");

// REQUIRES: sizeof(T) bytes at `bytes`.
template <typename T>
T LoadLe(const char* bytes) {
  static_assert(std::is_integral_v<T>);
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <typename T>
void AppendLe(std::string* out, T value) {
  static_assert(std::is_integral_v<T>);
  out->append(reinterpret_cast<const char*>(&value), sizeof(T));
}

}  // namespace featurescope
