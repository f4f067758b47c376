"""Pictures and profiles in the admin."""

from django.contrib import admin

from project.gallery.models import Picture, Profile


@admin.register(Picture)
class PictureAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # generic only in the stubs
    list_display = ["title", "image", "attachment", "created_at"]
    search_fields = ["title", "image", "attachment"]
    date_hierarchy = "created_at"


@admin.register(Profile)
class ProfileAdmin(admin.ModelAdmin):  # type: ignore[type-arg]  # as above
    list_display = ["user", "avatar"]
