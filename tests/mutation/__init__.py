"""Does a test fail for every transform and every compaction rule that is broken in one place?"""
