// A connection of an IndexReader's pool, for as long as one call reads.
#pragma once

#include <memory>

#include "server/store/index_db.h"

namespace featurescope {

class IndexReader::Lease {
 public:
  // Waits until one is idle.
  explicit Lease(const IndexReader* reader);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  Database* get() const { return database_.get(); }

 private:
  const IndexReader* reader_;
  std::unique_ptr<Database> database_;
};

}  // namespace featurescope
