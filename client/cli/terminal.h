// What the command line prints: tables, progress bars, heat strips; colour only on a terminal.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace featurescope {

struct Terminal {
  bool out_is_terminal = false;  // standard output
  bool err_is_terminal = false;
  int width = 80;  // columns

  static Terminal Detect();

  std::string Bold(absl::string_view text) const;
  std::string Dim(absl::string_view text) const;
  // `text` on a background whose strength goes from 0 to 1; [text] where there is no colour and the
  // strength is over a half.
  std::string Heat(absl::string_view text, double strength) const;
};

// Columns aligned, numbers to the right. `rows` are of the same length as `header`.
std::string FormatTable(const Terminal& terminal, const std::vector<std::string>& header,
                        const std::vector<std::vector<std::string>>& rows);

// Lines "  name  value", names in one column; empty values are left out.
std::string Properties(const Terminal& terminal,
                       const std::vector<std::pair<std::string, std::string>>& properties);

// How many columns a UTF-8 text takes; every code point counts one.
size_t DisplayWidth(absl::string_view text);

std::string FormatNumber(double value, int digits = 4);  // significant digits
std::string FormatCount(double value);                   // 12.3k, 4.5M
std::string FormatBytes(double bytes);                   // 12.3 MB
std::string FormatDuration(double seconds);              // 1:02:03

// A line on standard error that is drawn over itself on a terminal; elsewhere a new line now and
// then.
class ProgressLine {
 public:
  explicit ProgressLine(const Terminal& terminal) : terminal_(terminal) {}
  ~ProgressLine() { Finish(); }

  void Show(double fraction, absl::string_view label, absl::string_view detail);
  void Finish();  // ends the line, if one is open

 private:
  const Terminal& terminal_;
  bool open_ = false;
  absl::Time last_ = absl::InfinitePast();
};

}  // namespace featurescope
