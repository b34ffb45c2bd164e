// A parsed chat template.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "server/text/jinja_value.h"

namespace featurescope {

struct JinjaExpr;
using JinjaExprPtr = std::unique_ptr<const JinjaExpr>;

// Positional arguments have no name.
struct JinjaArgument {
  std::string name;
  JinjaExprPtr value;
};

struct JinjaExpr {
  enum class Kind {
    kLiteral,      // literal
    kName,         // name
    kList,         // items
    kMap,          // items: key, value, key, value, ...
    kAttribute,    // items[0].name
    kSubscript,    // items[0][items[1]]
    kSlice,        // items[0][items[1]:items[2]:items[3]], null where left out
    kCall,         // items[0](arguments)
    kFilter,       // items[0] | name(arguments)
    kTest,         // items[0] is name(arguments)
    kUnary,        // name: "-", "+", "not"
    kBinary,       // items[0] name items[1]; "and" and "or" evaluate the second where it counts
    kConditional,  // items[0] if items[1] else items[2], which may be null
  };
  Kind kind = Kind::kLiteral;
  int line = 0;
  int height = 1;  // of the tree of expressions below
  std::string name;
  JinjaValue literal;
  std::vector<JinjaExprPtr> items;
  std::vector<JinjaArgument> arguments;
};

struct JinjaNode;
using JinjaBlock = std::vector<std::unique_ptr<const JinjaNode>>;

struct JinjaNode {
  enum class Kind {
    kText,   // text
    kPrint,  // expr
    kIf,     // branches in order, then otherwise
    kFor,    // names in expr, where condition; body, otherwise when there was nothing
    kSet,    // names = expr, or names[0].attribute = expr, or names[0] = what body prints
    kMacro,  // macro
    kBlock,  // body in place: {% generation %}
    kBreak,
    kContinue,
  };
  Kind kind = Kind::kText;
  int line = 0;
  std::string text;
  JinjaExprPtr expr;
  JinjaExprPtr condition;
  std::vector<std::pair<JinjaExprPtr, JinjaBlock>> branches;
  std::vector<std::string> names;
  std::string attribute;
  JinjaBlock body;
  JinjaBlock otherwise;
  std::unique_ptr<const JinjaMacro> macro;
};

struct JinjaMacro {
  std::string name;
  std::vector<std::pair<std::string, JinjaExprPtr>> parameters;  // with default; null: none
  JinjaBlock body;
};

}  // namespace featurescope
