#include "client/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"

namespace featurescope {
namespace {

constexpr absl::Duration kRedraw = absl::Milliseconds(100);
constexpr absl::Duration kLogLine = absl::Seconds(10);
constexpr int kBarWidth = 24;

}  // namespace

Terminal Terminal::Detect() {
  Terminal terminal;
  const bool plain = getenv("NO_COLOR") != nullptr;
  terminal.out_is_terminal = isatty(STDOUT_FILENO) != 0 && !plain;
  terminal.err_is_terminal = isatty(STDERR_FILENO) != 0;
  winsize size{};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20)
    terminal.width = size.ws_col;
  return terminal;
}

std::string Terminal::Bold(absl::string_view text) const {
  return out_is_terminal ? absl::StrCat("\033[1m", text, "\033[0m") : std::string(text);
}

std::string Terminal::Dim(absl::string_view text) const {
  return out_is_terminal ? absl::StrCat("\033[2m", text, "\033[0m") : std::string(text);
}

std::string Terminal::Heat(absl::string_view text, double strength) const {
  strength = std::clamp(strength, 0.0, 1.0);
  if (!out_is_terminal) return strength > 0.5 ? absl::StrCat("[", text, "]") : std::string(text);
  if (strength <= 0) return std::string(text);
  // From a pale to a strong orange; dark ink on all of them.
  const int green = static_cast<int>(235 - 105 * strength);
  const int blue = static_cast<int>(205 - 185 * strength);
  return absl::StrFormat("\033[48;2;255;%d;%dm\033[38;2;30;20;10m%s\033[0m", green, blue,
                         std::string(text));
}

size_t DisplayWidth(absl::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
  }));
}

std::string FormatTable(const Terminal& terminal, const std::vector<std::string>& header,
                        const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  std::vector<bool> numeric(header.size(), !rows.empty());
  for (const std::string& title : header) widths.push_back(DisplayWidth(title));
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], DisplayWidth(row[i]));
      if (row[i].find_first_not_of("0123456789.,-+ekMG%") != std::string::npos) numeric[i] = false;
    }
  }
  auto line = [&](const std::vector<std::string>& cells) {
    std::string text;
    for (size_t i = 0; i < cells.size(); ++i) {
      const std::string pad(widths[i] - DisplayWidth(cells[i]), ' ');
      const bool last = i + 1 == cells.size();
      absl::StrAppend(&text, numeric[i] ? pad : "", cells[i], numeric[i] || last ? "" : pad,
                      last ? "" : "  ");
    }
    return text;
  };
  std::string table = absl::StrCat(terminal.Bold(line(header)), "\n");
  for (const auto& row : rows) absl::StrAppend(&table, line(row), "\n");
  return table;
}

std::string Properties(const Terminal& terminal,
                       const std::vector<std::pair<std::string, std::string>>& properties) {
  size_t width = 0;
  for (const auto& [name, value] : properties) width = std::max(width, name.size());
  std::string text;
  for (const auto& [name, value] : properties) {
    if (value.empty()) continue;
    absl::StrAppend(&text, "  ", terminal.Dim(name), std::string(width + 2 - name.size(), ' '),
                    value, "\n");
  }
  return text;
}

std::string FormatNumber(double value, int digits) {
  return absl::StrFormat("%.*g", digits, value);
}

std::string FormatCount(double value) {
  if (value >= 1e9) return absl::StrFormat("%.2fG", value / 1e9);
  if (value >= 1e6) return absl::StrFormat("%.2fM", value / 1e6);
  if (value >= 1e4) return absl::StrFormat("%.1fk", value / 1e3);
  return absl::StrFormat("%.0f", value);
}

std::string FormatBytes(double bytes) {
  for (const char* unit : {"B", "kB", "MB", "GB"}) {
    if (bytes < 1000) return absl::StrFormat("%.3g %s", bytes, unit);
    bytes /= 1000;
  }
  return absl::StrFormat("%.3g TB", bytes);
}

std::string FormatDuration(double seconds) {
  const auto total = static_cast<int64_t>(std::max(0.0, std::round(seconds)));
  if (total >= 3600) {
    return absl::StrFormat("%d:%02d:%02d", total / 3600, total / 60 % 60, total % 60);
  }
  return absl::StrFormat("%d:%02d", total / 60, total % 60);
}

void ProgressLine::Show(double fraction, absl::string_view label, absl::string_view detail) {
  const absl::Time now = absl::Now();
  if (now - last_ < (terminal_.err_is_terminal ? kRedraw : kLogLine) && fraction < 1) return;
  last_ = now;
  fraction = std::clamp(fraction, 0.0, 1.0);
  const int filled = static_cast<int>(fraction * kBarWidth);
  std::string bar;
  for (int i = 0; i < kBarWidth; ++i) bar += i < filled ? "█" : "░";
  std::string line = absl::StrFormat("%s %s %3.0f%%  %s", std::string(label), bar, fraction * 100,
                                     std::string(detail));
  if (terminal_.err_is_terminal) {
    while (DisplayWidth(line) >= static_cast<size_t>(terminal_.width) && !line.empty()) {
      line.pop_back();
    }
    fprintf(stderr, "\r\033[K%s", line.c_str());
    open_ = true;
  } else {
    fprintf(stderr, "%s\n", line.c_str());
  }
  fflush(stderr);
}

void ProgressLine::Finish() {
  if (open_) fprintf(stderr, "\r\033[K");
  open_ = false;
}

}  // namespace featurescope
