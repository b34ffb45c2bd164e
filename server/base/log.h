// The server's log: one line per event on standard error, with control characters escaped.
//
//   LogInfo("loaded model ", id, " in ", seconds, " s");
#pragma once

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace featurescope {

enum class LogLevel { kInfo, kWarning, kError };

// Thread-safe; one write(2) per line.
void Log(LogLevel level, absl::string_view message);

template <typename... Args>
void LogInfo(const Args&... args) {
  Log(LogLevel::kInfo, absl::StrCat(args...));
}
template <typename... Args>
void LogWarning(const Args&... args) {
  Log(LogLevel::kWarning, absl::StrCat(args...));
}
template <typename... Args>
void LogError(const Args&... args) {
  Log(LogLevel::kError, absl::StrCat(args...));
}

}  // namespace featurescope
