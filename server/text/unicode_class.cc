#include "server/text/unicode_class.h"

#include <utf8proc.h>

#include <array>

namespace featurescope {
namespace {

bool HasWhiteSpaceProperty(char32_t c) {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
         c == 0x3000;
}

utf8proc_category_t CategoryOf(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

CharClass ClassByCategory(char32_t c) {
  if (HasWhiteSpaceProperty(c)) return CharClass::kSpace;
  switch (CategoryOf(c)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
      return CharClass::kLetter;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return CharClass::kNumber;
    default:
      return CharClass::kOther;
  }
}

std::array<CharClass, 128> AsciiClasses() {
  std::array<CharClass, 128> classes;
  for (char32_t c = 0; c < 128; ++c) classes[c] = ClassByCategory(c);
  return classes;
}

}  // namespace

CharClass ClassOf(char32_t code_point) {
  static const std::array<CharClass, 128> ascii = AsciiClasses();
  return code_point < 128 ? ascii[code_point] : ClassByCategory(code_point);
}

bool IsMark(char32_t code_point) {
  switch (CategoryOf(code_point)) {
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
      return true;
    default:
      return false;
  }
}

bool IsPunctuation(char32_t code_point) {
  switch (CategoryOf(code_point)) {
    case UTF8PROC_CATEGORY_PC:
    case UTF8PROC_CATEGORY_PD:
    case UTF8PROC_CATEGORY_PS:
    case UTF8PROC_CATEGORY_PE:
    case UTF8PROC_CATEGORY_PI:
    case UTF8PROC_CATEGORY_PF:
    case UTF8PROC_CATEGORY_PO:
      return true;
    default:
      return false;
  }
}

bool IsSymbol(char32_t code_point) {
  switch (CategoryOf(code_point)) {
    case UTF8PROC_CATEGORY_SM:
    case UTF8PROC_CATEGORY_SC:
    case UTF8PROC_CATEGORY_SK:
    case UTF8PROC_CATEGORY_SO:
      return true;
    default:
      return false;
  }
}

bool IsWordCharacter(char32_t code_point) {
  // Alphabetic beyond letters and marks: letter numbers and these enclosed letters.
  const bool enclosed_letter = (code_point >= 0x24b6 && code_point <= 0x24e9) ||
                               (code_point >= 0x1f130 && code_point <= 0x1f149) ||
                               (code_point >= 0x1f150 && code_point <= 0x1f169) ||
                               (code_point >= 0x1f170 && code_point <= 0x1f189);
  if (enclosed_letter || code_point == 0x200c || code_point == 0x200d) return true;
  switch (CategoryOf(code_point)) {
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_PC:
      return true;
    default:
      return IsLetter(code_point) || IsMark(code_point);
  }
}

bool IsInvisible(char32_t code_point) {
  switch (CategoryOf(code_point)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
      return true;
    default:
      return false;
  }
}

}  // namespace featurescope
