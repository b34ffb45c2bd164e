#include "server/base/log.h"

#include <unistd.h>

#include <string>

#include "absl/strings/escaping.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace featurescope {

void Log(LogLevel level, absl::string_view message) {
  static constexpr const char* kNames[] = {"I", "W", "E"};
  std::string line =
      absl::StrCat(kNames[static_cast<int>(level)], " ",
                   absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", absl::Now(), absl::UTCTimeZone()), " ",
                   absl::Utf8SafeCEscape(message), "\n");
  // A log line that cannot be written has nowhere else to go.
  [[maybe_unused]] ssize_t written = write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace featurescope
