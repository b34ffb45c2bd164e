#include "server/text/unicode_forms.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <memory>
#include <vector>

#include "server/text/characters.h"

namespace featurescope {
namespace {

constexpr char32_t kCodePoints = 0x30000;    // no character beyond has a decomposition
constexpr utf8proc_int32_t kMostParts = 32;  // the longest decomposition, U+FDFA, has 18

utf8proc_option_t DecomposeOptions(UnicodeForm form) {
  const bool compatible = form == UnicodeForm::kNfkc || form == UnicodeForm::kNfkd;
  return static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_DECOMPOSE |
                                        (compatible ? UTF8PROC_COMPAT : 0));
}
bool Composes(UnicodeForm form) { return form == UnicodeForm::kNfc || form == UnicodeForm::kNfkc; }

int CombiningClass(utf8proc_int32_t code) { return utf8proc_get_property(code)->combining_class; }

void AppendDecomposed(char32_t code, utf8proc_option_t options,
                      std::vector<utf8proc_int32_t>* codes) {
  utf8proc_int32_t parts[kMostParts];
  int last_boundary = 0;
  const utf8proc_ssize_t n = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code), parts,
                                                     kMostParts, options, &last_boundary);
  if (n > 0 && n <= kMostParts) {
    codes->insert(codes->end(), parts, parts + n);
  } else {
    codes->push_back(static_cast<utf8proc_int32_t>(code));
  }
}

// Sorts each run of marks by combining class, keeping the order of equals.
void OrderMarks(std::vector<utf8proc_int32_t>* codes) {
  for (auto at = codes->begin(); at != codes->end();) {
    if (CombiningClass(*at) == 0) {
      ++at;
      continue;
    }
    const auto end =
        std::find_if(at, codes->end(), [](utf8proc_int32_t c) { return CombiningClass(c) == 0; });
    std::stable_sort(at, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    at = end;
  }
}

void AppendForm(UnicodeForm form, absl::string_view text, std::vector<utf8proc_int32_t>* codes,
                std::string* out) {
  codes->clear();
  for (size_t at = 0; at < text.size();) {
    const Character c = CharacterAt(text, at);
    AppendDecomposed(c.code, DecomposeOptions(form), codes);
    at += c.size;
  }
  OrderMarks(codes);
  if (Composes(form)) {
    const utf8proc_ssize_t n = utf8proc_normalize_utf32(
        codes->data(), static_cast<utf8proc_ssize_t>(codes->size()),
        static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    codes->resize(static_cast<size_t>(std::max<utf8proc_ssize_t>(n, 0)));
  }
  for (utf8proc_int32_t code : *codes) AppendUtf8(static_cast<char32_t>(code), out);
}

// For a form, the characters that it leaves as they are wherever they stand and that nothing
// before them joins: a text can be cut in front of each.
using StableSet = std::bitset<kCodePoints>;

std::unique_ptr<const StableSet> FindStable(UnicodeForm form) {
  auto stable = std::make_unique<StableSet>();
  StableSet joins;  // second or later in a canonical decomposition
  std::vector<utf8proc_int32_t> parts;
  std::vector<utf8proc_int32_t> codes;
  std::string text, formed;
  for (char32_t code = 0; code < kCodePoints; ++code) {
    if (code >= 0xd800 && code <= 0xdfff) continue;  // no characters
    parts.clear();
    AppendDecomposed(code, DecomposeOptions(UnicodeForm::kNfd), &parts);
    for (size_t i = 1; i < parts.size(); ++i) joins.set(static_cast<size_t>(parts[i]));
    if (parts.size() == 1 && DecomposeOptions(form) == DecomposeOptions(UnicodeForm::kNfd)) {
      if (static_cast<char32_t>(parts[0]) == code) stable->set(code);
      continue;
    }
    text.clear();
    formed.clear();
    AppendUtf8(code, &text);
    AppendForm(form, text, &codes, &formed);
    if (text == formed) stable->set(code);
  }
  for (char32_t code = 0; code < kCodePoints; ++code) {
    if ((Composes(form) && joins[code]) || CombiningClass(static_cast<int32_t>(code)) != 0) {
      stable->reset(code);
    }
  }
  return stable;
}

// One set for each form, made when it is first asked for.
const StableSet& StableIn(UnicodeForm form) {
  switch (form) {
    case UnicodeForm::kNfc: {
      static const StableSet* set = FindStable(form).release();
      return *set;
    }
    case UnicodeForm::kNfd: {
      static const StableSet* set = FindStable(form).release();
      return *set;
    }
    case UnicodeForm::kNfkc: {
      static const StableSet* set = FindStable(form).release();
      return *set;
    }
    case UnicodeForm::kNfkd:
      break;
  }
  static const StableSet* set = FindStable(UnicodeForm::kNfkd).release();
  return *set;
}

// All characters below U+0300 are stable in NFC; the first byte of those above is at least this.
constexpr unsigned char kFirstUnstableLead = 0xcc;

size_t SkipSurelyStable(UnicodeForm form, absl::string_view text, size_t at) {
  const unsigned char lead = form == UnicodeForm::kNfc ? kFirstUnstableLead : 0x80;
  while (at < text.size() && static_cast<unsigned char>(text[at]) < lead) ++at;
  return at;
}

}  // namespace

bool ToUnicodeForm(UnicodeForm form, absl::string_view text, std::string* out) {
  size_t at = SkipSurelyStable(form, text, 0);
  if (at == text.size()) return false;
  const StableSet& set = StableIn(form);
  const auto is_stable = [&set](char32_t code) { return code >= kCodePoints || set[code]; };
  std::string formed;
  std::vector<utf8proc_int32_t> codes;
  size_t copied = 0;
  while (at < text.size()) {
    const Character c = CharacterAt(text, at);
    if (is_stable(c.code)) {
      at = SkipSurelyStable(form, text, at + c.size);
      continue;
    }
    // An unstable stretch: with the stable character before it, which it may join, up to the next.
    size_t begin = at;
    if (begin > copied) begin -= CharacterBefore(text, begin).size;
    size_t end = at + c.size;
    while (end < text.size()) {
      const Character next = CharacterAt(text, end);
      if (is_stable(next.code)) break;
      end += next.size;
    }
    formed.append(text.data() + copied, begin - copied);
    AppendForm(form, text.substr(begin, end - begin), &codes, &formed);
    copied = at = end;
  }
  if (copied == 0) return false;
  formed.append(text.data() + copied, text.size() - copied);
  *out = std::move(formed);
  return true;
}

}  // namespace featurescope
